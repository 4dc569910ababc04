# Helpers: explain, conv_shape, padding_of, conv, _channels, _check_channels, batch_norm, relu,
#   _foreign_name, dtype, iinfo, _lowest, _pad, _slices, _slide, pool_shape, max_pool, _rescale,
#   dropout, linear, class_axis, check_classes, _column, _pick, _weights, reduced,
#   cross_entropy_body, followed, plain_classes, cross_entropy, _add_at_target,
#   cross_entropy_vjp_body, cross_entropy_vjp_input, rows, linear_vjp_x, linear_vjp_weight,
#   linear_vjp_bias, dropout_vjp_x, crop, max_pool_vjp_x, relu_vjp_x, batch_norm_vjp_x_weight_bias,
#   conv_vjp_weight, contiguous, adam.


def step(p, s, x, y, h, random):
    rest1, beta2, rest2, rate, eps, weight_decay = h
    # forward
    # (8, 8, 12, 12)
    conv_out = conv(x, p["conv.weight"], stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1))
    add_1 = p["norm.num_batches_tracked"] + 1                         # ()
    # (8, 8, 12, 12), (8,), (8,)
    norm_out, mean_1, var_1 = batch_norm(conv_out, p["norm.weight"], p["norm.bias"])
    multiply_1 = p["norm.running_mean"] * 0.9                         # (8,)
    multiply_2 = mean_1 * 0.1                                         # (8,)
    add_2 = multiply_1 + multiply_2                                   # (8,)
    del multiply_1, multiply_2
    multiply_3 = p["norm.running_var"] * 0.9                          # (8,)
    multiply_4 = var_1 * 0.1000868809730669                           # (8,)
    add_3 = multiply_3 + multiply_4                                   # (8,)
    del multiply_3, multiply_4
    relu_1 = relu(norm_out)                                           # (8, 8, 12, 12)
    del norm_out
    # (8, 8, 6, 6)
    pool = max_pool(relu_1, size=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)), dilation=(1, 1))
    reshape_1 = xp.reshape(pool, shape=(8, 288))                      # (8, 288)
    drop = dropout(reshape_1, random[0], p=0.25)                      # (8, 288)
    del reshape_1
    fc = linear(drop, p["fc.weight"], p["fc.bias"])                   # (8, 10)
    criterion = cross_entropy(fc, y)                                  # ()
    # backward
    d_criterion = xp.ones_like(criterion)                             # ()
    d_fc = cross_entropy_vjp_input(d_criterion, fc, y, None, ignore_index=-100, label_smoothing=0.0,
        reduction='mean')                                             # (8, 10)
    del fc, d_criterion
    d_drop = linear_vjp_x(d_fc, p["fc.weight"], x_shape=(8, 288))     # (8, 288)
    d_fc_weight = linear_vjp_weight(d_fc, drop)                       # (10, 288)
    del drop
    d_fc_bias = linear_vjp_bias(d_fc)                                 # (10,)
    del d_fc
    d_reshape_1 = dropout_vjp_x(d_drop, random[0], p=0.25)            # (8, 288)
    del d_drop
    d_pool = xp.reshape(d_reshape_1, shape=(8, 8, 6, 6))              # (8, 8, 6, 6)
    del d_reshape_1
    d_relu_1 = max_pool_vjp_x(d_pool, relu_1, pool, size=(2, 2), stride=(2, 2), padding=((0, 0), (0,
        0)), dilation=(1, 1), ceil_mode=False)                        # (8, 8, 12, 12)
    del pool, d_pool
    d_norm_out = relu_vjp_x(d_relu_1, relu_1)                         # (8, 8, 12, 12)
    del relu_1, d_relu_1
    d_conv_out, d_norm_weight, d_norm_bias = batch_norm_vjp_x_weight_bias(d_norm_out, conv_out,
        p["norm.weight"], mean_1, var_1, eps=1e-05)                   # (8, 8, 12, 12), (8,), (8,)
    del conv_out, mean_1, var_1, d_norm_out
    d_conv_weight = conv_vjp_weight(d_conv_out, x, weight_shape=(8, 1, 3, 3), stride=(1, 1),
        padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)          # (8, 1, 3, 3)
    del d_conv_out
    # update
    new_params, new_exp_avg, new_exp_avg_sq = adam([p["conv.weight"], p["norm.weight"], p["norm.bias"],
        p["fc.weight"], p["fc.bias"]], [d_conv_weight, d_norm_weight, d_norm_bias, d_fc_weight,
        d_fc_bias], s["exp_avg"], s["exp_avg_sq"], rest1, beta2, rest2, rate, eps, weight_decay,
        amsgrad=False, maximize=False, decay=None)
    del d_conv_weight, d_norm_weight, d_norm_bias, d_fc_weight, d_fc_bias
    return ((criterion,), {"conv.weight": new_params[0], "norm.weight": new_params[1],
        "norm.bias": new_params[2], "fc.weight": new_params[3], "fc.bias": new_params[4],
        "norm.running_mean": add_2, "norm.running_var": add_3, "norm.num_batches_tracked": add_1},
        {"exp_avg": new_exp_avg, "exp_avg_sq": new_exp_avg_sq}, ())
