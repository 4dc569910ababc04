def adam(params, grads, exp_avgs, exp_avg_sqs, rest1, beta2, rest2, rate, eps, weight_decay):
    """Updates the arrays in place, in chunks that stay in cache."""
    for start in range(0, params[0].size, 32768):
        p = params[0][start : start + 32768]
        g = grads[0][start : start + 32768]
        exp_avg = exp_avgs[0][start : start + 32768]
        exp_avg_sq = exp_avg_sqs[0][start : start + 32768]
        t0 = adam_t0[: p.size]
        t1 = adam_t1[: p.size]
        np.subtract(g, exp_avg, out=t0)
        np.multiply(rest1, t0, out=t0)
        np.add(exp_avg, t0, out=exp_avg)
        np.multiply(beta2, exp_avg_sq, out=t0)
        np.multiply(g, g, out=t1)
        np.multiply(rest2, t1, out=t1)
        np.add(t0, t1, out=exp_avg_sq)
        np.sqrt(exp_avg_sq, out=t1)
        np.add(t1, eps, out=t1)
        np.divide(exp_avg, t1, out=t1)
        np.multiply(rate, t1, out=t1)
        np.subtract(p, t1, out=p)
    return params, exp_avgs, exp_avg_sqs


def step(p, s, x, y, h):
    rest1, beta2, rest2, rate, eps, weight_decay = h
    # forward
    transpose_1 = p["0.weight"].T                                     # (64, 128)
    np.matmul(x, transpose_1, out=matmul_1)                           # (32, 128)
    del transpose_1
    np.add(matmul_1, p["0.bias"], out=h0)                             # (32, 128)
    np.maximum(h0, 0, out=h1)                                         # (32, 128)
    transpose_2 = p["2.weight"].T                                     # (128, 10)
    np.matmul(h1, transpose_2, out=matmul_2)                          # (32, 10)
    del transpose_2
    np.add(matmul_2, p["2.bias"], out=h2)                             # (32, 10)
    greater_equal_1 = y >= 0                                          # (32,)
    less_1 = y < 10                                                   # (32,)
    bitwise_and_1 = greater_equal_1 & less_1                          # (32,)
    del greater_equal_1, less_1
    equal_1 = y == -100                                               # (32,)
    where_1 = xp.where(bitwise_and_1, y, 0)                           # (32,)
    where_2 = xp.where(bitwise_and_1, constant_0, float("nan"))       # (32,)
    del bitwise_and_1
    where_3 = xp.where(equal_1, 0, where_2)                           # (32,)
    del where_2
    logsumexp_1 = xp.logsumexp(h2, axis=1)                            # (32,)
    expand_dims_1 = xp.expand_dims(where_1, axis=1)                   # (32, 1)
    del where_1
    take_along_axis_1 = xp.take_along_axis(h2, expand_dims_1, axis=1)  # (32, 1)
    squeeze_1 = xp.squeeze(take_along_axis_1, axis=1)                 # (32,)
    del take_along_axis_1
    subtract_1 = logsumexp_1 - squeeze_1                              # (32,)
    del logsumexp_1, squeeze_1
    multiply_1 = subtract_1 * where_3                                 # (32,)
    del subtract_1
    where_4 = xp.where(equal_1, 0, multiply_1)                        # (32,)
    del equal_1, multiply_1
    sum_ = xp.sum(where_4)                                            # ()
    del where_4
    sum__1 = xp.sum(where_3)                                          # ()
    criterion = sum_ / sum__1                                         # ()
    del sum_
    # backward
    d_criterion = xp.ones_like(criterion)                             # ()
    divide_1 = d_criterion / sum__1                                   # ()
    del sum__1, d_criterion
    logsumexp_2 = xp.logsumexp(h2, axis=1, keepdims=True)             # (32, 1)
    np.subtract(h2, logsumexp_2, out=subtract_2)                      # (32, 10)
    del logsumexp_2
    np.exp(subtract_2, out=exp_1)                                     # (32, 10)
    multiply_2 = where_3 * divide_1                                   # (32,)
    del where_3, divide_1
    expand_dims_2 = xp.expand_dims(multiply_2, axis=1)                # (32, 1)
    np.multiply(exp_1, expand_dims_2, out=multiply_3)                 # (32, 10)
    del expand_dims_2
    negative_1 = -multiply_2                                          # (32,)
    del multiply_2
    expand_dims_3 = xp.expand_dims(negative_1, axis=1)                # (32, 1)
    del negative_1
    d_h2 = xp.scatter_add(multiply_3, expand_dims_1, expand_dims_3, axis=1)  # (32, 10)
    del expand_dims_1, expand_dims_3
    np.matmul(d_h2, p["2.weight"], out=d_h1)                          # (32, 128)
    transpose_3 = d_h2.T                                              # (10, 32)
    np.matmul(transpose_3, h1, out=d_2_weight)                        # (10, 128)
    del transpose_3
    np.add.reduce(d_h2, axis=0, out=d_2_bias)                         # (10,)
    del d_h2
    np.greater(h1, 0, out=greater_1)                                  # (32, 128)
    np.multiply(greater_1.view(np.int8), d_h1.view(np.int32), out=d_h0_bits, dtype=np.int32)  # (32, 128)
    np.matmul(transpose_4, x, out=d_0_weight)                         # (128, 64)
    np.add.reduce(d_h0, axis=0, out=d_0_bias)                         # (128,)
    # update
    new_params, new_exp_avg, new_exp_avg_sq = adam(s["params"], [flat_1], s["exp_avg"], s["exp_avg_sq"],
        rest1, beta2, rest2, rate, eps, weight_decay)
    return ((criterion,), {}, {"exp_avg": new_exp_avg, "exp_avg_sq": new_exp_avg_sq,
        "params": new_params}, ())
