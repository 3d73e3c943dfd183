/* Convolutions and their gradients for the emulation of cuDNN, naively, in memory of any strides. */
#include <algorithm>
#include "convolutions.h"

namespace {

std::vector<float> gather(const tensor &t, const void *p, bool tf32) {
    std::vector<float> v;
    v.reserve((size_t)(t.size[0] * t.size[1] * t.size[2] * t.size[3]));
    for (int64_t n = 0; n < t.size[0]; n++)
        for (int64_t h = 0; h < t.size[2]; h++)
            for (int64_t w = 0; w < t.size[3]; w++)
                for (int64_t c = 0; c < t.size[1]; c++) {
                    const float one =
                        fake_get(t.type, p, n * t.stride[0] + c * t.stride[1] + h * t.stride[2] + w * t.stride[3]);
                    v.push_back(tf32 ? fake_tf32(one) : one);
                }
    return v;
}

/* Calls f(tap, pixel of x) for each tap of the window at (oy, ox) that is in the picture. */
template <typename F> void each_tap(const graph &g, int64_t n, int64_t oy, int64_t ox, F f) {
    for (int64_t ky = 0; ky < g.w.size[2]; ky++)
        for (int64_t kx = 0; kx < g.w.size[3]; kx++) {
            const int64_t y = oy * g.stride[0] - g.before[0] + ky, x = ox * g.stride[1] - g.before[1] + kx;
            if (y < 0 || y >= g.x.size[2] || x < 0 || x >= g.x.size[3]) continue;
            f(ky * g.w.size[3] + kx, (n * g.x.size[2] + y) * g.x.size[3] + x);
        }
}

template <typename F> void each_window(const graph &g, F f) {
    for (int64_t n = 0; n < g.y.size[0]; n++)
        for (int64_t oy = 0; oy < g.y.size[2]; oy++)
            for (int64_t ox = 0; ox < g.y.size[3]; ox++) f(n, oy, ox, (n * g.y.size[2] + oy) * g.y.size[3] + ox);
}

void scatter(const tensor &t, void *p, const std::vector<float> &v) {
    size_t i = 0;
    for (int64_t n = 0; n < t.size[0]; n++)
        for (int64_t h = 0; h < t.size[2]; h++)
            for (int64_t w = 0; w < t.size[3]; w++)
                for (int64_t c = 0; c < t.size[1]; c++)
                    fake_put(t.type, p, n * t.stride[0] + c * t.stride[1] + h * t.stride[2] + w * t.stride[3], v[i++]);
}

void forward(const graph &g, const addresses &a, bool tf32) {
    const int64_t c = g.x.size[1], o = g.y.size[1], taps = g.w.size[2] * g.w.size[3];
    const std::vector<float> x = gather(g.x, a.x, tf32), w = gather(g.w, a.w, tf32);
    std::vector<float> y((size_t)(g.y.size[0] * g.y.size[2] * g.y.size[3] * o)), window((size_t)(taps * c)), residual;
    if (g.has_residual) residual = gather(g.residual, a.residual, false);
    each_window(g, [&](int64_t n, int64_t oy, int64_t ox, int64_t pixel) {
        std::fill(window.begin(), window.end(), 0.0f);
        each_tap(g, n, oy, ox, [&](int64_t tap, int64_t from) {
            std::copy_n(&x[(size_t)(from * c)], c, &window[(size_t)(tap * c)]);
        });
        for (int64_t i = 0; i < o; i++) {
            float v = fake_dot(&window[0], &w[(size_t)(i * taps * c)], taps * c);
            if (g.has_residual) v += residual[(size_t)(pixel * o + i)];
            if (g.has_bias) v += fake_get(g.bias.type, a.bias, i);
            y[(size_t)(pixel * o + i)] = v;
        }
    });
    scatter(g.out, (void *)a.out, y);
}

void grad_input(const graph &g, const addresses &a, bool tf32) {
    const int64_t c = g.x.size[1], o = g.y.size[1], taps = g.w.size[2] * g.w.size[3];
    const std::vector<float> dy = gather(g.y, a.out, tf32), w = gather(g.w, a.w, tf32);
    std::vector<double> dx((size_t)(g.x.size[0] * g.x.size[2] * g.x.size[3] * c));
    each_window(g, [&](int64_t n, int64_t oy, int64_t ox, int64_t pixel) {
        each_tap(g, n, oy, ox, [&](int64_t tap, int64_t to) {
            for (int64_t i = 0; i < o; i++)
                for (int64_t j = 0; j < c; j++)
                    dx[(size_t)(to * c + j)] +=
                        (double)dy[(size_t)(pixel * o + i)] * w[(size_t)((i * taps + tap) * c + j)];
        });
    });
    scatter(g.x, (void *)a.x, std::vector<float>(dx.begin(), dx.end()));
}

void grad_weight(const graph &g, const addresses &a, bool tf32) {
    const int64_t c = g.x.size[1], o = g.y.size[1], taps = g.w.size[2] * g.w.size[3];
    const std::vector<float> dy = gather(g.y, a.out, tf32), x = gather(g.x, a.x, tf32);
    std::vector<double> dw((size_t)(o * taps * c));
    each_window(g, [&](int64_t n, int64_t oy, int64_t ox, int64_t pixel) {
        each_tap(g, n, oy, ox, [&](int64_t tap, int64_t from) {
            for (int64_t i = 0; i < o; i++)
                for (int64_t j = 0; j < c; j++)
                    dw[(size_t)((i * taps + tap) * c + j)] +=
                        (double)dy[(size_t)(pixel * o + i)] * x[(size_t)(from * c + j)];
        });
    });
    scatter(g.w, (void *)a.w, std::vector<float>(dw.begin(), dw.end()));
}

} // namespace

void convolve(const graph &g, const addresses &a, bool tf32) {
    if (g.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) forward(g, a, tf32);
    else if (g.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR) grad_input(g, a, tf32);
    else grad_weight(g, a, tf32);
}
