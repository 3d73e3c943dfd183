-- Every operation against its formula, written out here in plain Lua.
package.path = (arg[0]:match "^.*/" or "./") .. "?.lua;" .. package.path
local check, weft = require "check", require "weft"
local generator = weft.generator(1)
local function noise(...) return weft.randn({ ... }, generator) end
local near = 1e-5       -- f32, sums of a few dozen values of size 1

-- t's values by index from 0, so that formulas read as they are printed
local function reader(t)
    local flat, shape = check.flat(t:tolist()), t.shape
    return function(...)
        local at = 0
        for i, k in ipairs { ... } do at = at * shape[i] + k end
        return flat[at + 1]
    end
end
local function table_of(shape, f)
    local out, index = {}, {}
    local function walk(depth)
        if depth > #shape then
            out[#out + 1] = f(table.unpack(index))
            return
        end
        for i = 0, shape[depth] - 1 do
            index[depth] = i
            walk(depth + 1)
        end
    end
    walk(1)
    return out
end

-- one by one
local function erf(x)           -- Abramowitz and Stegun 7.1.26: 1.5e-7
    local t = 1 / (1 + 0.3275911 * math.abs(x))
    local y = 1 - (((((1.061405429 * t - 1.453152027) * t) + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * math.exp(-x * x)
    return x < 0 and -y or y
end
local function tanh(x) return (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1) end
local function sigmoid(x) return 1 / (1 + math.exp(-x)) end
local formulas = {
    silu = function(x) return x * sigmoid(x) end, gelu = function(x) return x / 2 * (1 + erf(x / math.sqrt(2))) end,
    quick_gelu = function(x) return x * sigmoid(1.702 * x) end,
    gelu_tanh = function(x) return x / 2 * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3))) end,
        relu = function(x) return math.max(x, 0) end,
    sigmoid = sigmoid, tanh = tanh, exp = math.exp, abs = math.abs, square = function(x) return x * x end,
        sin = math.sin, cos = math.cos,
}
local x = noise(3, 5)
for name, f in pairs(formulas) do
    local at = reader(x)
    check.values(weft[name](x), table_of({ 3, 5 }, function(i, j) return f(at(i, j)) end), near)
    check.values(x[name](x), weft[name](x):tolist())
end
local positive = x:abs() + 0.1
check.values(positive:log():exp(), check.flat(positive:tolist()), near)
check.values(positive:sqrt():square(), check.flat(positive:tolist()), near)
check.values(x:affine(2, 1), check.flat((x * 2 + 1):tolist()), near)
check.values(x:clamp(-0.5, 0.5), table_of({ 3, 5 },
    function(i, j) return math.max(-0.5, math.min(0.5, reader(x)(i, j))) end))
check.values(weft.axpby(2, x, -3, positive), check.flat((x * 2 - positive * 3):tolist()), near)

-- sums and the like
local at = reader(x)
local function column(j, f) return f(at(0, j), at(1, j), at(2, j)) end
check.values(x:sum(1), table_of({ 5 }, function(j) return column(j, function(a, b, c) return a + b + c end) end), near)
check.values(x:mean(1), table_of({ 5 },
    function(j) return column(j, function(a, b, c) return (a + b + c) / 3 end) end), near)
check.values(x:max(1), table_of({ 5 }, function(j) return column(j, math.max) end))
check.values(x:min { dim = -2 }, table_of({ 5 }, function(j) return column(j, math.min) end))
check.shape(x:sum(2), 3)
check.near(x:sum():item(), x:sum(1):sum():item(), near)
check.is(x:max():item(), math.max(table.unpack(check.flat(x:tolist()))))

-- products
local function activated(name, v) return name == "none" and v or formulas[name](v) end
local w, bias, residual = noise(4, 5), noise(4), noise(3, 4)
local function linear(act, with_bias, with_residual)
    local W, B, R = reader(w), reader(bias), reader(residual)
    return table_of({ 3, 4 }, function(m, n)
        local sum = with_bias and B(n) or 0
        for k = 0, 4 do sum = sum + at(m, k) * W(n, k) end
        return activated(act, sum) + (with_residual and R(m, n) or 0)
    end)
end
check.values(weft.linear(x, w), linear("none"), near)
check.values(weft.linear(x, w, bias), linear("none", true), near)
check.values(x:linear(w, bias, "silu", residual), linear("silu", true, true), near)
check.values(weft.linear(x, w, { residual = residual, act = "relu" }), linear("relu", false, true), near)
check.is(check.throws("did you mean silu?", weft.linear, x, w, bias, "sylu").input, "act")
check.values(weft.matmul(x, w:permute(2, 1)), linear("none"), near)

local picture, filter, row = noise(1, 4, 5, 3), noise(2, 3, 3, 3), noise(1, 2)
local function conv(stride, top, bottom, left, right, row_too)
    local X, W, B, R = reader(picture), reader(filter), reader(bias), reader(row)
    local oh, ow = (4 + top + bottom - 3) // stride + 1, (5 + left + right - 3) // stride + 1
    return table_of({ 1, oh, ow, 2 }, function(n, i, j, o)
        local sum = B(o) + (row_too and R(n, o) or 0)
        for ky = 0, 2 do
            for kx = 0, 2 do
                local y, xx = i * stride + ky - top, j * stride + kx - left
                for c = 0, 2 do
                    if y >= 0 and y < 4 and xx >= 0 and xx < 5 then sum = sum + X(n, y, xx, c) * W(o, c, ky, kx) end
                end
            end
        end
        return sum
    end)
end
local two = bias:slice(1, 1, 2)
check.values(weft.conv2d(picture, filter, two), conv(1, 0, 0, 0, 0), near)
check.values(weft.conv2d(picture, filter, two, { pad = 1 }), conv(1, 1, 1, 1, 1), near)
check.values(weft.conv2d(picture, filter, two, 2, { 0, 1, 1, 0 }), conv(2, 0, 1, 1, 0), near)
check.values(weft.conv2d(picture, filter, { bias = two, stride = 2, pad = { 1, 0, 0, 2 }, row = row }),
    conv(2, 1, 0, 0, 2, true), near)
check.throws("one number or", weft.conv2d, picture, filter, { pad = { 1, 2 } })

-- attention: queries and keys of 2 heads
local q, k, v = noise(1, 3, 2, 4), noise(1, 5, 2, 4), noise(1, 5, 2, 4)
local function attention(scale, causal)
    local Q, K, V = reader(q), reader(k), reader(v)
    return table_of({ 1, 3, 2, 4 }, function(b, i, h, d)
        local sum, out = 0, 0
        for j = 0, 4 do
            if not causal or j <= i + 2 then
                local dot = 0
                for e = 0, 3 do dot = dot + Q(b, i, h, e) * K(b, j, h, e) end
                local weight = math.exp(scale * dot)
                sum, out = sum + weight, out + weight * V(b, j, h, d)
            end
        end
        return out / sum
    end)
end
check.values(weft.attention(q, k, v), attention(0.5), near)
check.values(weft.attention(q, k, v, 0.3, true), attention(0.3, true), near)
check.values(weft.attention(q, k, v, { causal = true }), attention(0.5, true), near)

-- norms
local function normalized(get, count)
    local mean, square = 0, 0
    for i = 1, count do mean = mean + get(i) / count end
    for i = 1, count do square = square + (get(i) - mean) ^ 2 / count end
    return function(value, eps) return (value - mean) / math.sqrt(square + eps) end
end
local gamma, beta = noise(5), noise(5)
check.values(weft.layer_norm(x, gamma, beta, 1e-3), table_of({ 3, 5 }, function(i, j)
    return normalized(function(c) return at(i, c - 1) end, 5)(at(i, j), 1e-3) * reader(gamma)(j) + reader(beta)(j)
end), near)
local features = noise(1, 2, 3, 4)
local F = reader(features)
check.values(weft.group_norm(features, 2, { eps = 1e-3, act = "silu" }), table_of({ 1, 2, 3, 4 }, function(n, i, j, c)
    local g = c // 2
    return formulas.silu(normalized(function(m) m = m - 1 return F(n, m // 6, m // 2 % 3, 2 * g + m % 2) end,
        12)(F(n, i, j, c), 1e-3))
end), near)
check.values(weft.softmax(x, 2), table_of({ 3, 5 }, function(i, j)
    local sum = 0
    for c = 0, 4 do sum = sum + math.exp(2 * at(i, c)) end
    return math.exp(2 * at(i, j)) / sum
end), near)
local wide = noise(2, 6)
check.values(weft.geglu(wide), table_of({ 2, 3 },
    function(i, j) return reader(wide)(i, j) * formulas.gelu(reader(wide)(i, 3 + j)) end), near)

-- pictures and tables
check.values(features:to_nchw():to_nhwc(), check.flat(features:tolist()))
check.values(features:to_nchw(), table_of({ 1, 4, 2, 3 }, function(n, c, i, j) return F(n, i, j, c) end))
check.values(weft.resample(features, 4, 6, "nearest"),
    table_of({ 1, 4, 6, 4 }, function(n, i, j, c) return F(n, i // 2, j // 2, c) end))
check.values(features:resample { height = 1, width = 1, mode = "area" }, check.flat(features:mean(2):mean(2):tolist()),
    near)
check.is(check.throws("mode is missing", weft.resample, features, 4, 6).input, "mode")
check.values(weft.pad(features, 1, 0, 0, 2, { value = 9 }),
    table_of({ 1, 3, 5, 4 }, function(n, i, j, c) return i >= 1 and j < 3 and F(n, i - 1, j, c) or 9 end))
check.values(weft.pad(features, { left = 1, mode = "replicate" }),
    table_of({ 1, 2, 4, 4 }, function(n, i, j, c) return F(n, i, math.max(j - 1, 0), c) end))
local words = noise(4, 3)
check.values(weft.embedding(weft.tensor({ 3, 0, 3 }, { dtype = "i64" }), words),
    table_of({ 3, 3 }, function(i, c) return reader(words)(({ 3, 0, 3 })[i + 1], c) end))
check.throws("embedding", weft.embedding, weft.tensor({ 4 }, { dtype = "i64" }), words)
check.values(weft.timestep_embedding(weft.tensor { 0, 10 }, 4), table_of({ 2, 4 }, function(n, j)
    return (j < 2 and math.cos or math.sin)(10 * n * 10000 ^ (-(j % 2) / 2))
end), near)
check.values(weft.timestep_embedding(weft.tensor { 10 }, 4,
    { flip_sin_to_cos = false, freq_shift = 1, scale = 2, max_period = 100 }), table_of({ 4 }, function(j)
    return (j < 2 and math.sin or math.cos)(20 * 100 ^ (-(j % 2) / 1))
end), near)
check.done()
