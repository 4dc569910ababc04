# Helpers: linear, relu, explain, class_axis, check_classes, _column, _pick, _weights, reduced,
#   cross_entropy_body, followed, plain_classes, cross_entropy, _add_at_target,
#   cross_entropy_vjp_body, cross_entropy_vjp_input, rows, linear_vjp_x, linear_vjp_weight,
#   linear_vjp_bias, relu_vjp_x, contiguous, adam.


def step(p, s, x, y, h):
    rest1, beta2, rest2, rate, eps, weight_decay = h
    # forward
    h0 = linear(x, p["0.weight"], p["0.bias"])                        # (32, 128)
    h1 = relu(h0)                                                     # (32, 128)
    del h0
    h2 = linear(h1, p["2.weight"], p["2.bias"])                       # (32, 10)
    criterion = cross_entropy(h2, y)                                  # ()
    # backward
    d_criterion = xp.ones_like(criterion)                             # ()
    d_h2 = cross_entropy_vjp_input(d_criterion, h2, y, None, ignore_index=-100, label_smoothing=0.0,
        reduction='mean')                                             # (32, 10)
    del h2, d_criterion
    d_h1 = linear_vjp_x(d_h2, p["2.weight"], x_shape=(32, 128))       # (32, 128)
    d_2_weight = linear_vjp_weight(d_h2, h1)                          # (10, 128)
    d_2_bias = linear_vjp_bias(d_h2)                                  # (10,)
    del d_h2
    d_h0 = relu_vjp_x(d_h1, h1)                                       # (32, 128)
    del h1, d_h1
    d_0_weight = linear_vjp_weight(d_h0, x)                           # (128, 64)
    d_0_bias = linear_vjp_bias(d_h0)                                  # (128,)
    del d_h0
    # update
    new_params, new_exp_avg, new_exp_avg_sq = adam([p["0.weight"], p["0.bias"], p["2.weight"],
        p["2.bias"]], [d_0_weight, d_0_bias, d_2_weight, d_2_bias], s["exp_avg"], s["exp_avg_sq"],
        rest1, beta2, rest2, rate, eps, weight_decay, amsgrad=False, maximize=False, decay=None)
    del d_0_weight, d_0_bias, d_2_weight, d_2_bias
    return ((criterion,), {"0.weight": new_params[0], "0.bias": new_params[1],
        "2.weight": new_params[2], "2.bias": new_params[3]}, {"exp_avg": new_exp_avg,
        "exp_avg_sq": new_exp_avg_sq}, ())
