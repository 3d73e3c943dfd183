/* What a graph of cuDNN's is to the emulation: a convolution or a gradient of it, and what is added behind. */
#ifndef FAKE_CONVOLUTIONS_H
#define FAKE_CONVOLUTIONS_H

#include "cudnn_graph.h"
#include "numbers.h"

/* n, c, h, w */
struct tensor { fake_type type; int64_t uid, size[4], stride[4], align; bool between; };

struct graph {
    int kind;                                   /* of the convolution */
    tensor x, w, y, out, residual, bias;        /* y is the convolution's, out the graph's */
    bool has_residual, has_bias;
    int64_t stride[2], before[2], behind[2];
};

struct addresses { const void *x, *w, *out, *residual, *bias; };

/* Computes it, now; tf32: with operands rounded so. */
void convolve(const graph &g, const addresses &a, bool tf32);

#endif
