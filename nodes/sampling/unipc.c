/* UniPC's weights; see unipc.h. */
#include "nodes/sampling/unipc.h"

#include <math.h>

enum { ORDER = WEFT_UNIPC_ORDER };

/* Solves Σ_j r_j^i·x_j = b_i for the first n, by Gauss with the largest pivot. */
static void solve(const double *r, const double *b, int n, double *x) {
    double a[ORDER][ORDER + 1];
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) a[i][j] = pow(r[j], i);
        a[i][n] = b[i];
    }
    for (int k = 0; k < n; k++) {
        int best = k;
        for (int i = k + 1; i < n; i++)
            if (fabs(a[i][k]) > fabs(a[best][k])) best = i;
        for (int j = 0; j <= n; j++) {
            double swap = a[k][j];
            a[k][j] = a[best][j];
            a[best][j] = swap;
        }
        for (int i = k + 1; i < n; i++)
            for (int j = n; j >= k; j--) a[i][j] -= a[i][k] / a[k][k] * a[k][j];
    }
    for (int i = n - 1; i >= 0; i--) {
        x[i] = a[i][n];
        for (int j = i + 1; j < n; j++) x[i] -= a[i][j] * x[j];
        x[i] /= a[i][i];
    }
}

void weft_unipc_weights(double hh, const double *r, int order, bool bh2, bool corrector, double *out) {
    double phi = expm1(hh), base = bh2 ? phi : hh, all[ORDER], b[ORDER], rho[ORDER] = { 0.5 }, factorial = 1;
    double part = phi / hh - 1;
    int n = corrector ? order : order - 1;
    for (int i = 0; i < order; i++) {
        all[i] = i < order - 1 ? r[i] : 1;
        b[i] = part * factorial / base;
        factorial *= i + 2;
        part = part / hh - 1 / factorial;
    }
    if (corrector ? order > 1 : order > 2) solve(all, b, n, rho);
    out[0] = phi;
    for (int j = 0; j < n; j++) {
        out[j + 1] = base * rho[j] / all[j];
        out[0] -= out[j + 1];
    }
}
