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


def step(p, s, x, y, h, random):
    rest1, beta2, rest2, rate, eps, weight_decay = h
    # forward
    transpose_1 = xp.transpose(x, axes=(1, 2, 3, 0))                  # (1, 12, 12, 8)
    pad_1.fill(0)
    np.copyto(pad_1_inner, transpose_1)                               # (1, 14, 14, 8)
    del transpose_1
    np.copyto(reshape_2_parts, transpose_3)                           # (9, 1152)
    reshape_3 = xp.reshape(p["conv.weight"], shape=(8, 9))            # (8, 9)
    np.matmul(reshape_3, reshape_2, out=matmul_1)                     # (8, 1152)
    del reshape_3
    add_1 = p["norm.num_batches_tracked"] + 1                         # ()
    mean_1 = xp.mean(conv_out, axis=(0, 2, 3))                        # (8,)
    reshape_5 = xp.reshape(mean_1, shape=(8, 1, 1))                   # (8, 1, 1)
    np.subtract(conv_out, reshape_5, out=subtract_1)                  # (8, 8, 12, 12)
    del reshape_5
    np.square(subtract_1, out=square_1)                               # (8, 8, 12, 12)
    var_1 = xp.mean(square_1, axis=(0, 2, 3))                         # (8,)
    add_4 = var_1 + 1e-05                                             # (8,)
    rsqrt_1 = xp.rsqrt(add_4)                                         # (8,)
    del add_4
    multiply_5 = rsqrt_1 * p["norm.weight"]                           # (8,)
    reshape_6 = xp.reshape(multiply_5, shape=(8, 1, 1))               # (8, 1, 1)
    del multiply_5
    np.multiply(subtract_1, reshape_6, out=multiply_6)                # (8, 8, 12, 12)
    reshape_7 = xp.reshape(p["norm.bias"], shape=(8, 1, 1))           # (8, 1, 1)
    np.add(multiply_6, reshape_7, out=norm_out)                       # (8, 8, 12, 12)
    del reshape_7
    multiply_1 = p["norm.running_mean"] * 0.9                         # (8,)
    multiply_2 = mean_1 * 0.1                                         # (8,)
    del mean_1
    add_2 = multiply_1 + multiply_2                                   # (8,)
    del multiply_1, multiply_2
    multiply_3 = p["norm.running_var"] * 0.9                          # (8,)
    multiply_4 = var_1 * 0.1000868809730669                           # (8,)
    del var_1
    add_3 = multiply_3 + multiply_4                                   # (8,)
    del multiply_3, multiply_4
    np.maximum(norm_out, 0, out=relu_1)                               # (8, 8, 12, 12)
    np.maximum(getitem_1, getitem_2, out=maximum_1)                   # (8, 8, 6, 12)
    np.maximum(getitem_3, getitem_4, out=pool)                        # (8, 8, 6, 6)
    np.multiply(reshape_1, 1.3333333333333333, out=multiply_7)        # (8, 288)
    np.multiply(random[0].view(np.int8), multiply_7.view(np.int32), out=drop_bits, dtype=np.int32)  # (8, 288)
    transpose_4 = p["fc.weight"].T                                    # (288, 10)
    matmul_2 = drop @ transpose_4                                     # (8, 10)
    del transpose_4
    fc = matmul_2 + p["fc.bias"]                                      # (8, 10)
    del matmul_2
    greater_equal_1 = y >= 0                                          # (8,)
    less_1 = y < 10                                                   # (8,)
    bitwise_and_1 = greater_equal_1 & less_1                          # (8,)
    del greater_equal_1, less_1
    equal_1 = y == -100                                               # (8,)
    where_1 = xp.where(bitwise_and_1, y, 0)                           # (8,)
    where_2 = xp.where(bitwise_and_1, constant_0, float("nan"))       # (8,)
    del bitwise_and_1
    where_3 = xp.where(equal_1, 0, where_2)                           # (8,)
    del where_2
    logsumexp_1 = xp.logsumexp(fc, axis=1)                            # (8,)
    expand_dims_1 = xp.expand_dims(where_1, axis=1)                   # (8, 1)
    del where_1
    take_along_axis_1 = xp.take_along_axis(fc, expand_dims_1, axis=1)  # (8, 1)
    squeeze_1 = xp.squeeze(take_along_axis_1, axis=1)                 # (8,)
    del take_along_axis_1
    subtract_2 = logsumexp_1 - squeeze_1                              # (8,)
    del logsumexp_1, squeeze_1
    multiply_8 = subtract_2 * where_3                                 # (8,)
    del subtract_2
    where_4 = xp.where(equal_1, 0, multiply_8)                        # (8,)
    del equal_1, multiply_8
    sum_ = xp.sum(where_4)                                            # ()
    del where_4
    sum__1 = xp.sum(where_3)                                          # ()
    criterion = sum_ / sum__1                                         # ()
    del sum_
    # backward
    d_criterion = xp.ones_like(criterion)                             # ()
    divide_1 = d_criterion / sum__1                                   # ()
    del sum__1, d_criterion
    logsumexp_2 = xp.logsumexp(fc, axis=1, keepdims=True)             # (8, 1)
    subtract_3 = fc - logsumexp_2                                     # (8, 10)
    del fc, logsumexp_2
    exp_1 = xp.exp(subtract_3)                                        # (8, 10)
    del subtract_3
    multiply_9 = where_3 * divide_1                                   # (8,)
    del where_3, divide_1
    expand_dims_2 = xp.expand_dims(multiply_9, axis=1)                # (8, 1)
    multiply_10 = exp_1 * expand_dims_2                               # (8, 10)
    del exp_1, expand_dims_2
    negative_1 = -multiply_9                                          # (8,)
    del multiply_9
    expand_dims_3 = xp.expand_dims(negative_1, axis=1)                # (8, 1)
    del negative_1
    d_fc = xp.scatter_add(multiply_10, expand_dims_1, expand_dims_3, axis=1)  # (8, 10)
    del expand_dims_1, multiply_10, expand_dims_3
    np.matmul(d_fc, p["fc.weight"], out=d_drop)                       # (8, 288)
    transpose_5 = d_fc.T                                              # (10, 8)
    np.matmul(transpose_5, drop, out=d_fc_weight)                     # (10, 288)
    del transpose_5
    np.add.reduce(d_fc, axis=0, out=d_fc_bias)                        # (10,)
    del d_fc
    np.multiply(d_drop, 1.3333333333333333, out=multiply_11)          # (8, 288)
    np.multiply(random[0].view(np.int8), multiply_11.view(np.int32), out=d_reshape_1_bits,
        dtype=np.int32)                                               # (8, 288)
    np.equal(getitem_5, pool, out=equal_2)                            # (8, 8, 6, 6)
    # (8, 8, 6, 6)
    np.multiply(equal_2.view(np.int8), d_pool.view(np.int32), out=where_5_bits, dtype=np.int32)
    np.equal(getitem_6, pool, out=equal_3)                            # (8, 8, 6, 6)
    np.invert(equal_2, out=bitwise_not_1)                             # (8, 8, 6, 6)
    np.bitwise_and(equal_3, bitwise_not_1, out=bitwise_and_2)         # (8, 8, 6, 6)
    # (8, 8, 6, 6)
    np.multiply(bitwise_and_2.view(np.int8), d_pool.view(np.int32), out=where_6_bits, dtype=np.int32)
    np.bitwise_or(equal_2, equal_3, out=bitwise_or_1)                 # (8, 8, 6, 6)
    np.equal(getitem_7, pool, out=equal_4)                            # (8, 8, 6, 6)
    np.invert(bitwise_or_1, out=bitwise_not_2)                        # (8, 8, 6, 6)
    np.bitwise_and(equal_4, bitwise_not_2, out=bitwise_and_3)         # (8, 8, 6, 6)
    # (8, 8, 6, 6)
    np.multiply(bitwise_and_3.view(np.int8), d_pool.view(np.int32), out=where_7_bits, dtype=np.int32)
    np.bitwise_or(bitwise_or_1, equal_4, out=bitwise_or_2)            # (8, 8, 6, 6)
    np.equal(getitem_8, pool, out=equal_5)                            # (8, 8, 6, 6)
    np.invert(bitwise_or_2, out=bitwise_not_3)                        # (8, 8, 6, 6)
    np.bitwise_and(equal_5, bitwise_not_3, out=bitwise_and_4)         # (8, 8, 6, 6)
    # (8, 8, 6, 6)
    np.multiply(bitwise_and_4.view(np.int8), d_pool.view(np.int32), out=where_8_bits, dtype=np.int32)
    np.stack((where_5, where_6, where_7, where_8,), 0, out=stack_1)   # (4, 8, 8, 6, 6)
    d_relu_1.fill(0)
    for part, window in d_relu_1_windows:
        np.add(part, window, out=part)                                # (8, 8, 12, 12)
    np.greater(relu_1, 0, out=greater_1)                              # (8, 8, 12, 12)
    # (8, 8, 12, 12)
    np.multiply(greater_1.view(np.int8), d_relu_1.view(np.int32), out=d_norm_out_bits, dtype=np.int32)
    reshape_9 = xp.reshape(rsqrt_1, shape=(8, 1, 1))                  # (8, 1, 1)
    del rsqrt_1
    np.multiply(subtract_1, reshape_9, out=multiply_12)               # (8, 8, 12, 12)
    del reshape_9
    np.add.reduce(d_norm_out, axis=(0, 2, 3), out=d_norm_bias)        # (8,)
    np.multiply(d_norm_out, multiply_12, out=multiply_13)             # (8, 8, 12, 12)
    np.add.reduce(multiply_13, axis=(0, 2, 3), out=d_norm_weight)     # (8,)
    divide_2 = d_norm_bias / 1152                                     # (8,)
    reshape_10 = xp.reshape(divide_2, shape=(8, 1, 1))                # (8, 1, 1)
    del divide_2
    np.subtract(d_norm_out, reshape_10, out=subtract_4)               # (8, 8, 12, 12)
    del reshape_10
    divide_3 = d_norm_weight / 1152                                   # (8,)
    reshape_11 = xp.reshape(divide_3, shape=(8, 1, 1))                # (8, 1, 1)
    del divide_3
    np.multiply(multiply_12, reshape_11, out=multiply_14)             # (8, 8, 12, 12)
    del reshape_11
    np.subtract(subtract_4, multiply_14, out=subtract_5)              # (8, 8, 12, 12)
    np.multiply(subtract_5, reshape_6, out=d_conv_out)                # (8, 8, 12, 12)
    del reshape_6
    matmul_3 = reshape_2 @ transpose_8                                # (9, 8)
    transpose_9 = matmul_3.T                                          # (8, 9)
    del matmul_3
    d_conv_weight = xp.reshape(transpose_9, shape=(8, 1, 3, 3))       # (8, 1, 3, 3)
    del transpose_9
    # update
    np.copyto(flat_1_0, d_conv_weight)
    del d_conv_weight
    new_params, new_exp_avg, new_exp_avg_sq = adam(s["params"], [flat_1], s["exp_avg"], s["exp_avg_sq"],
        rest1, beta2, rest2, rate, eps, weight_decay)
    return ((criterion,), {"norm.running_mean": add_2, "norm.running_var": add_3,
        "norm.num_batches_tracked": add_1}, {"exp_avg": new_exp_avg, "exp_avg_sq": new_exp_avg_sq,
        "params": new_params}, ())
