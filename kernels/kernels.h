/* The kernel table: every number-crunching function a back end offers, as typed function pointers.
 *
 * Kernels are pure functions on raw pointers. They know no tensor and no graph, own no memory but the
 * scratch that their environment lends them, and report failure by a status, never by ending the process.
 * A back end (reference, cpu, cuda) fills one weft_kernels; the runtime reaches it through that table alone.
 *
 * Conventions
 *   - Activations are dense and NHWC; "rows" are the outer dimensions flattened, the last one is contiguous.
 *   - `type` is the type of the activations (inputs and output alike); weights have a type of their own.
 *   - Small per-channel vectors (bias, gamma, beta) have the activations' type.
 *   - Sizes may be 0: a kernel then has nothing to do and succeeds.
 *   - Work is split over threads only where no sum is split: the thread count never changes a byte.
 *   - An output may not overlap an input unless the struct says so.
 */
#ifndef WEFT_KERNELS_H
#define WEFT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum weft_dtype {
    WEFT_F32, WEFT_F16, WEFT_BF16, WEFT_F64, WEFT_I64, WEFT_I32, WEFT_U8,
    WEFT_DTYPE_COUNT
} weft_dtype;

/* Bytes of one element; 0 for a value that is no type. */
static inline size_t weft_dtype_size(weft_dtype t) {
    static const unsigned char size[WEFT_DTYPE_COUNT] = { 4, 2, 2, 8, 8, 4, 1 };
    return (unsigned)t < WEFT_DTYPE_COUNT ? size[t] : 0;
}

/* "f32", "bf16", …; "?" for a value that is no type. */
static inline const char *weft_dtype_name(weft_dtype t) {
    static const char *const name[WEFT_DTYPE_COUNT] = { "f32", "f16", "bf16", "f64", "i64", "i32", "u8" };
    return (unsigned)t < WEFT_DTYPE_COUNT ? name[t] : "?";
}

/* What a kernel answers. */
enum {
    WEFT_K_OK = 0,
    WEFT_K_NO_MEMORY,   /* scratch was refused */
    WEFT_K_NO_TYPE,     /* no kernel for this combination of types */
    WEFT_K_NO_CASE,     /* a size or option outside what the kernel does; the runtime checks first, so a bug */
    WEFT_K_CANCELLED,   /* the cancel flag was seen up */
    WEFT_K_DEVICE       /* the device failed; the back end's last_error() says how */
};

/* exact: no algorithm that costs more than a few ulp against a plain sum. fast: Winograd F(4×4) too. */
typedef enum weft_precision { WEFT_PRECISION_FAST, WEFT_PRECISION_EXACT } weft_precision;

/* What a kernel may use of its surroundings. */
typedef struct weft_env {
    int threads;                    /* ≥1 */
    weft_precision precision;
    size_t scratch_hint;            /* bytes of scratch a kernel may take for speed alone (0: as little as it can) */
    void *owner;
    void *(*alloc)(void *owner, size_t bytes);      /* scratch, 64-byte aligned, counted; NULL when refused */
    void (*release)(void *owner, void *p, size_t bytes);
    const volatile int *cancel;     /* non-zero: give up soon with WEFT_K_CANCELLED; may be NULL */
    void *stream;                   /* the device's queue; NULL on a CPU */
} weft_env;

/* ---- packed weights ------------------------------------------------------------------------------------- */

/* Weights W(n, tap, k): n outputs, `taps` filter positions (1 for a linear layer), k inputs. The source is read
 * through strides (in elements), so OIHW files, transposed and flipped uses all pack with the same call.
 * The packed form keeps the source's type and is the back end's own; its size is pack_bytes(). */
typedef struct weft_pack_args {
    weft_dtype type;                                    /* f32, f16, bf16 or f64 */
    int64_t n, taps, k;
    int64_t stride_n, stride_tap, stride_k;             /* of the plain side */
    const void *src;                                    /* pack: plain; unpack: packed */
    void *dst;                                          /* pack: packed; unpack: plain */
} weft_pack_args;

/* ---- products ------------------------------------------------------------------------------------------- */

typedef enum weft_activation {
    WEFT_ACT_NONE, WEFT_ACT_SILU, WEFT_ACT_GELU, WEFT_ACT_QUICK_GELU, WEFT_ACT_GELU_TANH, WEFT_ACT_RELU,
    WEFT_ACT_COUNT
} weft_activation;

/* y(m,n) = act(x(m,k)·Wᵀ + bias(n)) + residual(m,n).  residual may be y itself. */
typedef struct weft_gemm_args {
    weft_dtype type, wtype;
    int64_t m, n, k;
    const void *x;  int64_t ldx;        /* row stride in elements, ≥k */
    const void *w;                      /* packed (n, 1, k) */
    const void *bias;                   /* n, or NULL */
    const void *residual; int64_t ldr;  /* m×n, or NULL */
    weft_activation act;
    void *y;        int64_t ldy;
} weft_gemm_args;

/* C(m,n) = alpha·A(m,k)·B(k,n) for each of `batch`, A and B read through strides (in elements); C dense rows.
 * For products of two activations and for weight gradients; accumulate: added to what C holds. */
typedef struct weft_matmul_args {
    weft_dtype type;
    int64_t batch, m, n, k;
    const void *a; int64_t a_batch, a_row, a_col;
    const void *b; int64_t b_batch, b_row, b_col;
    void *c;       int64_t c_batch, ldc;
    double alpha;
    int accumulate;
} weft_matmul_args;

/* y(n,oh,ow,o) = conv(x(n,h,w,c), W(o, kh·kw, c)) + bias(o) + row(n,o) + residual(n,oh,ow,o); zeros outside x.
 * oh and ow are the caller's: (h + pad_top + pad_bottom − kh)/stride + 1; only top and left pads are passed. */
typedef struct weft_conv2d_args {
    weft_dtype type, wtype;
    int64_t n, h, w, c, o, oh, ow;
    int kh, kw, stride, pad_top, pad_left;
    const void *x;
    const void *weight;                 /* packed (o, kh·kw, c) */
    const void *bias;                   /* o, or NULL */
    const void *row;                    /* n×o, added to every pixel of an image (the time embedding), or NULL */
    const void *residual;               /* like y, or NULL; may be y itself */
    void *y;
} weft_conv2d_args;

/* o = softmax(scale·q·kᵀ [causal: key j ≤ query i + tk − tq]) · v, per batch and head. Strides in elements; the
 * d values of a head are contiguous. Never holds the tq×tk matrix. A query row that sees no key gives zeros.
 * lse: (batch, heads, tq), the log of each row's sum of exp(score), for the gradient; f32 for type f32, f64 for any other;
 * −INFINITY for a row without keys. Or NULL. */
typedef struct weft_attention_args {
    weft_dtype type;
    int64_t batch, heads, tq, tk, d;
    const void *q; int64_t q_batch, q_token, q_head;
    const void *k; int64_t k_batch, k_token, k_head;
    const void *v; int64_t v_batch, v_token, v_head;
    void *o;       int64_t o_batch, o_token, o_head;
    void *lse;
    double scale;
    int causal;
} weft_attention_args;

/* ---- norms ---------------------------------------------------------------------------------------------- */

/* y = act((x − mean)/√(var + eps)·gamma + beta), mean and (biased) variance over a group's channels and all pixels.
 * x, y: (n, pixels, c); gamma, beta: c, or NULL. y may be x. mean, rstd: (n, groups) of `type`, or NULL: kept for the gradient. */
typedef struct weft_group_norm_args {
    weft_dtype type;
    int64_t n, pixels, c, groups;
    double eps;
    weft_activation act;
    const void *x, *gamma, *beta;
    void *y, *mean, *rstd;
} weft_group_norm_args;

/* The same over each row's c values. mean, rstd: rows values, or NULL. y may be x. */
typedef struct weft_layer_norm_args {
    weft_dtype type;
    int64_t rows, c;
    double eps;
    const void *x, *gamma, *beta;
    void *y, *mean, *rstd;
} weft_layer_norm_args;

/* y(row,·) = softmax(scale·x(row,·)). y may be x. */
typedef struct weft_softmax_args {
    weft_dtype type;
    int64_t rows, c;
    double scale;
    const void *x;
    void *y;
} weft_softmax_args;

/* ---- element by element --------------------------------------------------------------------------------- */

typedef enum weft_unary_op {
    WEFT_UNARY_SILU, WEFT_UNARY_GELU, WEFT_UNARY_QUICK_GELU, WEFT_UNARY_GELU_TANH, WEFT_UNARY_RELU,
    WEFT_UNARY_SIGMOID, WEFT_UNARY_TANH, WEFT_UNARY_EXP, WEFT_UNARY_LOG, WEFT_UNARY_SQRT, WEFT_UNARY_ABS,
    WEFT_UNARY_SQUARE, WEFT_UNARY_SIN, WEFT_UNARY_COS,
    WEFT_UNARY_COUNT
} weft_unary_op;

/* y = op(x), n elements; y may be x. */
typedef struct weft_unary_args {
    weft_dtype type;
    weft_unary_op op;
    int64_t n;
    const void *x;
    void *y;
} weft_unary_args;

/* y = clamp(scale·x + shift, low, high), n elements; y may be x. No clamp: low −INFINITY, high INFINITY. */
typedef struct weft_affine_args {
    weft_dtype type;
    int64_t n;
    double scale, shift, low, high;
    const void *x;
    void *y;
} weft_affine_args;

#define WEFT_MAX_RANK 6

typedef enum weft_binary_op {
    WEFT_BINARY_ADD, WEFT_BINARY_SUB, WEFT_BINARY_MUL, WEFT_BINARY_DIV, WEFT_BINARY_MIN, WEFT_BINARY_MAX,
    WEFT_BINARY_COUNT
} weft_binary_op;

/* y = op(a, b) over a dense y of this shape; a stride of 0 repeats an operand along that dimension.
 * y may be an operand that is dense and not repeated. */
typedef struct weft_binary_args {
    weft_dtype type;
    weft_binary_op op;
    int rank;
    int64_t shape[WEFT_MAX_RANK], a_stride[WEFT_MAX_RANK], b_stride[WEFT_MAX_RANK];
    const void *a, *b;
    void *y;
} weft_binary_args;

/* y = alpha·a + beta·b, n elements each; y may be a or b. CFG mixing, add-noise and scheduler steps are made of it. */
typedef struct weft_axpby_args {
    weft_dtype type;
    int64_t n;
    double alpha, beta;
    const void *a, *b;
    void *y;
} weft_axpby_args;

/* y(row, j) = x(row, j)·gelu(x(row, half + j)), gelu by erf; x has 2·half columns. */
typedef struct weft_geglu_args {
    weft_dtype type;
    int64_t rows, half;
    const void *x;
    void *y;
} weft_geglu_args;

/* Copies src (any strides, src_type) to dst (any strides, dst_type), converting: casts, permutes, slices, concat,
 * broadcasting (stride 0 on src). Float to integer truncates toward zero and saturates; NaN becomes 0. */
typedef struct weft_copy_args {
    weft_dtype src_type, dst_type;
    int rank;
    int64_t shape[WEFT_MAX_RANK], src_stride[WEFT_MAX_RANK], dst_stride[WEFT_MAX_RANK];
    const void *src;
    void *dst;
} weft_copy_args;

/* dst: n elements of `value`. */
typedef struct weft_fill_args {
    weft_dtype type;
    int64_t n;
    double value;
    void *dst;
} weft_fill_args;

typedef enum weft_reduce_op { WEFT_REDUCE_SUM, WEFT_REDUCE_MEAN, WEFT_REDUCE_MAX, WEFT_REDUCE_MIN, WEFT_REDUCE_COUNT } weft_reduce_op;

/* x seen as (outer, mid, inner): y(outer, inner) = op over mid. Sums are pairwise or in double. An empty mid gives 0
 * for sum, NaN for mean, and is refused (WEFT_K_NO_CASE) for max and min. */
typedef struct weft_reduce_args {
    weft_dtype type;
    weft_reduce_op op;
    int64_t outer, mid, inner;
    const void *x;
    void *y;
} weft_reduce_args;

/* ---- pictures, tables ----------------------------------------------------------------------------------- */

typedef enum weft_resample_mode {
    WEFT_NEAREST,           /* torch "nearest": source = floor(i·scale) */
    WEFT_NEAREST_EXACT,     /* torch "nearest-exact": floor((i+½)·scale) */
    WEFT_BILINEAR,          /* torch "bilinear", align_corners=False, no antialias */
    WEFT_BICUBIC,           /* torch "bicubic", a = −0.75, align_corners=False */
    WEFT_AREA,              /* torch "area" = adaptive average */
    WEFT_PIL_BILINEAR, WEFT_PIL_BICUBIC, WEFT_PIL_LANCZOS,  /* Pillow's resize with its support scaling */
    WEFT_RESAMPLE_COUNT
} weft_resample_mode;

/* x: (n,h,w,c) to y: (n,oh,ow,c). type f32, f64; the PIL modes also u8, then equal to Pillow's to the bit. */
typedef struct weft_resample_args {
    weft_dtype type;
    weft_resample_mode mode;
    int64_t n, h, w, c, oh, ow;
    const void *x;
    void *y;
} weft_resample_args;

typedef enum weft_pad_mode { WEFT_PAD_CONSTANT, WEFT_PAD_REPLICATE, WEFT_PAD_REFLECT, WEFT_PAD_COUNT } weft_pad_mode;

/* y: (n, h+top+bottom, w+left+right, c). Pads may be negative (crop) in constant mode. */
typedef struct weft_pad_args {
    weft_dtype type;
    weft_pad_mode mode;
    int64_t n, h, w, c, top, bottom, left, right;
    double value;
    const void *x;
    void *y;
} weft_pad_args;

/* y(i,·) = table(ids(i),·), converted to `type`; the runtime has checked 0 ≤ id < rows. */
typedef struct weft_embedding_args {
    weft_dtype type, table_type, id_type;   /* ids: i64 or i32 */
    int64_t n, rows, c;
    const void *ids, *table;
    void *y;
} weft_embedding_args;

/* Sinusoidal embedding, half = dim/2, f(j) = max_period^(−j/(half − shift)), angle = scale·t·f(j); computed as
 * PyTorch does, in f32 for type f32.  flip: [cos, sin], else [sin, cos]; an odd dim ends in a zero.
 * t: n values of `type`; y: (n, dim). */
typedef struct weft_timestep_args {
    weft_dtype type;
    int64_t n, dim;
    double max_period, shift, scale;
    int flip;
    const void *t;
    void *y;
} weft_timestep_args;

/* n numbers of Philox4x32-10 as PyTorch's CUDA generator lays them out (kernels/philox.h): uniform in [0, 1), or normal. Normal ones
 * differ between back ends as their sines do; a GPU's are PyTorch's. type: f32 or f64. */
typedef struct weft_philox_args {
    weft_dtype type;
    int uniform;
    int64_t n, threads;
    uint64_t seed, counter;             /* counter: of the first block of four */
    void *y;
} weft_philox_args;

/* ---- gradients ------------------------------------------------------------------------------------------ */

/* Each is named for its kernel: dy is the gradient of a scalar with respect to the kernel's y, dx what follows for its x.
 * Sizes and options are the forward's. A result is written whole, not added to, unless the struct has `accumulate`; it may be
 * dy only where the struct says so. Gradients of products: gemm with weights packed the other way round gives dx, matmul dw;
 * of bias, row and other repeated operands: reduce; of copy: copy; of binary and axpby: binary, axpby. */

/* dx(n,h,w,c) = Σ over taps and o of dy at the windows that the pixel was read by · W(o, tap, c).
 * weight: packed (c, kh·kw, o) with the taps in reverse order, W'(c, tap, o) = W(o, kh·kw − 1 − tap, c): the pack of an OIHW
 * weight with n = c, k = o, stride_n = kh·kw, stride_k = c·kh·kw, stride_tap = −1 and src at its last tap (element kh·kw − 1). */
typedef struct weft_conv2d_grad_input_args {
    weft_dtype type, wtype;
    int64_t n, h, w, c, o, oh, ow;      /* dy: (n,oh,ow,o) */
    int kh, kw, stride, pad_top, pad_left;
    const void *dy;
    const void *weight;
    void *dx;
} weft_conv2d_grad_input_args;

/* dw(o,c,ky,kx) = Σ over images and windows of dy(n,oy,ox,o)·x(n,oy·stride − pad_top + ky,ox·stride − pad_left + kx,c).
 * dw is plain, OIHW, of `type`; accumulate: added to what it holds. */
typedef struct weft_conv2d_grad_weight_args {
    weft_dtype type;
    int64_t n, h, w, c, o, oh, ow;
    int kh, kw, stride, pad_top, pad_left;
    int accumulate;
    const void *x, *dy;
    void *dw;
} weft_conv2d_grad_weight_args;

/* With p = softmax(scale·q·kᵀ) and dp = dout·vᵀ: ds = p·(dp − Σ of dout·o over d), dq = scale·ds·k, dk = scale·dsᵀ·q, dv = pᵀ·dout.
 * o and lse are what the forward gave; dout has o's strides. Each of dq, dk, dv may be NULL: not wanted. Their elements may not
 * overlap (where heads or images share keys, make each its own and sum). Never holds the tq×tk matrix. */
typedef struct weft_attention_grad_args {
    weft_dtype type;
    int64_t batch, heads, tq, tk, d;
    const void *q; int64_t q_batch, q_token, q_head;
    const void *k; int64_t k_batch, k_token, k_head;
    const void *v; int64_t v_batch, v_token, v_head;
    const void *o, *dout; int64_t o_batch, o_token, o_head;
    const void *lse;
    void *dq;      int64_t dq_batch, dq_token, dq_head;
    void *dk;      int64_t dk_batch, dk_token, dk_head;
    void *dv;      int64_t dv_batch, dv_token, dv_head;
    double scale;
    int causal;
} weft_attention_grad_args;

/* With x̂ = (x − mean)·rstd and dz = dy·act′(x̂·gamma + beta): dbeta = Σ dz, dgamma = Σ dz·x̂ over images and pixels, and
 * dx = rstd·(dz·gamma − its mean over the group − x̂·(mean of dz·gamma·x̂ over the group)).
 * mean, rstd: (n, groups), from the forward. gamma, beta: c, or NULL as there. dx, dgamma, dbeta may each be NULL: not wanted.
 * dx may be dy. */
typedef struct weft_group_norm_grad_args {
    weft_dtype type;
    int64_t n, pixels, c, groups;
    weft_activation act;
    const void *x, *gamma, *beta, *mean, *rstd, *dy;
    void *dx, *dgamma, *dbeta;
} weft_group_norm_grad_args;

/* The same over each row's c values, without activation. mean, rstd: rows values. */
typedef struct weft_layer_norm_grad_args {
    weft_dtype type;
    int64_t rows, c;
    const void *x, *gamma, *mean, *rstd, *dy;
    void *dx, *dgamma, *dbeta;
} weft_layer_norm_grad_args;

/* dx(row,·) = scale·y·(dy − Σ over the row of y·dy), y = softmax(scale·x). dx may be dy. */
typedef struct weft_softmax_grad_args {
    weft_dtype type;
    int64_t rows, c;
    double scale;
    const void *y, *dy;
    void *dx;
} weft_softmax_grad_args;

/* dx = dy·op′(x), n elements; dx may be dy. relu′(0) = 0 and abs′(0) = 0, as in PyTorch. */
typedef struct weft_unary_grad_args {
    weft_dtype type;
    weft_unary_op op;
    int64_t n;
    const void *x, *dy;
    void *dx;
} weft_unary_grad_args;

/* dx = scale·dy where low < scale·x + shift < high, 0 elsewhere, on the bounds (as PyTorch 2.15) and for NaN; dx may be dy. Without a
 * clamp (low −INFINITY, high INFINITY) x is not read and may be NULL. */
typedef struct weft_affine_grad_args {
    weft_dtype type;
    int64_t n;
    double scale, shift, low, high;
    const void *x, *dy;
    void *dx;
} weft_affine_grad_args;

/* x, dx: (rows, 2·half); dy: (rows, half). dx(j) = dy(j)·gelu(x(half + j)), dx(half + j) = dy(j)·x(j)·gelu′(x(half + j)). */
typedef struct weft_geglu_grad_args {
    weft_dtype type;
    int64_t rows, half;
    const void *x, *dy;
    void *dx;
} weft_geglu_grad_args;

/* dx(outer, mid, inner) from dy(outer, inner). sum: dy; mean: dy/mid; max, min: dy shared evenly by the values equal to y (as PyTorch's
 * amax), the others 0. x and y are read by max and min alone; else they may be NULL. */
typedef struct weft_reduce_grad_args {
    weft_dtype type;
    weft_reduce_op op;
    int64_t outer, mid, inner;
    const void *x, *y, *dy;
    void *dx;
} weft_reduce_grad_args;

/* The transpose of resample: dx(n,h,w,c) from dy(n,oh,ow,c), each output's gradient given back by the weights it was made with. */
typedef struct weft_resample_grad_args {
    weft_dtype type;
    weft_resample_mode mode;
    int64_t n, h, w, c, oh, ow;
    const void *dy;
    void *dx;
} weft_resample_grad_args;

/* The transpose of pad: dx(n,h,w,c) from dy(n, h+top+bottom, w+left+right, c); what was cropped gets 0. */
typedef struct weft_pad_grad_args {
    weft_dtype type;
    weft_pad_mode mode;
    int64_t n, h, w, c, top, bottom, left, right;
    const void *dy;
    void *dx;
} weft_pad_grad_args;

/* dtable(id,·) = Σ over the i with ids(i) = id, in their order, of dy(i,·); rows that no id names are 0.
 * accumulate: added to what dtable holds. The runtime has checked 0 ≤ id < rows. */
typedef struct weft_embedding_grad_args {
    weft_dtype type, id_type;           /* ids: i64 or i32 */
    int64_t n, rows, c;
    int accumulate;
    const void *ids, *dy;
    void *dtable;
} weft_embedding_grad_args;

/* ---- training ------------------------------------------------------------------------------------------- */

/* Optimisers change their arrays in place. type: f32 or f64, of every array but sums; state starts as zeros. Hyper-
 * parameters that depend on the step are the caller's to work out, in double. The cancel flag stops no update half-way. */

/* *y = Σ x² over n elements, in double whatever the type: added up piece by piece in a fixed order. */
typedef struct weft_sum_squares_args {
    weft_dtype type;
    int64_t n;
    const void *x;
    double *y;                          /* in the back end's memory */
} weft_sum_squares_args;

/* y = a + t·(b − a), n elements; y may be a or b. A moving average of equal values so stays to the bit; with t·b +
 * (1 − t)·a, both factors rounded, it would drift. */
typedef struct weft_lerp_args {
    weft_dtype type;
    int64_t n;
    double t;
    const void *a, *b;
    void *y;
} weft_lerp_args;

/* Adam (Kingma, Ba 2014), AdamW (Loshchilov, Hutter 2017): g += weight_decay·p, or, decoupled, p −= lr·weight_decay·p;
 * m += (1 − beta1)·(g − m); v = beta2·v + (1 − beta2)·g²; p −= lr/correct1 · m / (√v/√correct2 + eps). */
typedef struct weft_adam_args {
    weft_dtype type;
    int64_t n;
    double lr, beta1, beta2, eps, weight_decay;
    double correct1, correct2;          /* 1 − beta^step */
    int decoupled;
    const void *grad;
    void *param, *m, *v;
} weft_adam_args;

/* g += weight_decay·p; m = momentum·m + (1 − dampening)·g, or g where `first`; p −= lr·m, or, nesterov,
 * lr·(g + momentum·m). m NULL: no momentum, p −= lr·g. */
typedef struct weft_sgd_args {
    weft_dtype type;
    int64_t n;
    double lr, momentum, dampening, weight_decay;
    int nesterov, first;
    const void *grad;
    void *param, *m;
} weft_sgd_args;

/* Lion (Chen and others 2023): p −= lr·weight_decay·p + lr·sign(beta1·m + (1 − beta1)·g);
 * m = beta2·m + (1 − beta2)·g. */
typedef struct weft_lion_args {
    weft_dtype type;
    int64_t n;
    double lr, beta1, beta2, weight_decay;
    const void *grad;
    void *param, *m;
} weft_lion_args;

/* Adafactor (Shazeer, Stern 2018), in three calls on the same arguments.
 * moments: the squares g² + eps of a gradient (batch, rows, cols), averaged over cols into row (batch, rows) and over
 *     rows into col (batch, cols), each moving: row = decay·row + (1 − decay)·mean. row NULL: not factored, col is like
 *     the gradient.
 * size: *squares = Σ u², u = g·√(mean of the batch's row / row)/√col, or g/√col.
 * apply: u is divided by max(1, rms(u)/clip) and multiplied by the learning rate, lr·max(least, rms(p)), or lr where
 *     param_squares, which is Σ p², is NULL; with m it goes through m = beta1·m + (1 − beta1)·u;
 *     p −= weight_decay·(that learning rate)·p, then p −= u. */
typedef struct weft_adafactor_args {
    weft_dtype type;
    int64_t batch, rows, cols;
    double decay, eps;
    double lr, least, clip, beta1, weight_decay;
    const void *grad;
    void *row, *col, *param, *m;
    double *squares;                    /* in the back end's memory, as param_squares */
    const double *param_squares;
} weft_adafactor_args;

/* ---- the table ------------------------------------------------------------------------------------------ */

/* One row a kernel; from it come the table's members, their numbers and their names. */
#define WEFT_KERNEL_LIST(K) WEFT_FORWARD_KERNELS(K) WEFT_GRADIENT_KERNELS(K) WEFT_UPDATE_KERNELS(K)

#define WEFT_FORWARD_KERNELS(K) \
    K(pack) K(unpack) K(gemm) K(matmul) K(conv2d) K(attention) \
    K(group_norm) K(layer_norm) K(softmax) \
    K(unary) K(affine) K(binary) K(axpby) K(geglu) K(copy) K(fill) K(reduce) \
    K(resample) K(pad) K(embedding) K(timestep) K(philox)

#define WEFT_GRADIENT_KERNELS(K) \
    K(conv2d_grad_input) K(conv2d_grad_weight) K(attention_grad) \
    K(group_norm_grad) K(layer_norm_grad) K(softmax_grad) \
    K(unary_grad) K(affine_grad) K(geglu_grad) K(reduce_grad) \
    K(resample_grad) K(pad_grad) K(embedding_grad)

#define WEFT_UPDATE_KERNELS(K) \
    K(sum_squares) K(lerp) K(adam) K(sgd) K(lion) K(adafactor_moments) K(adafactor_size) K(adafactor_apply)

typedef struct weft_pack_args weft_unpack_args;
typedef struct weft_adafactor_args weft_adafactor_moments_args, weft_adafactor_size_args, weft_adafactor_apply_args;

enum weft_kernel_id {
#define K(name) WEFT_KERNEL_##name,
    WEFT_KERNEL_LIST(K)
#undef K
    WEFT_KERNEL_COUNT
};

typedef struct weft_kernels {
    const char *name;                   /* "reference", "cpu", "cuda" */
    const char *(*describe)(void);      /* what it runs on: "avx512", "NVIDIA …"; static storage */
    const char *(*last_error)(void);    /* after WEFT_K_DEVICE: what failed, of this thread; NULL where there is no device */

    /* A queue on device number `device`, for weft_env.stream: what is asked of it is done in that order. NULL: last_error()
     * says why, and what to do. One thread uses it at a time. open and close are NULL where there is no device. */
    void *(*open)(int device);
    void (*close)(void *stream);
    /* The queue's memory, 64-byte aligned; NULL and no side effect when it cannot be had. What is freed was used by this queue
     * alone, and what the queue was asked before may still use it. */
    void *(*mem_alloc)(void *stream, size_t bytes);
    void (*mem_free)(void *stream, void *p, size_t bytes);
    /* Between host and device, either way, done on return; on a CPU a plain copy. */
    int (*mem_copy)(const weft_env *env, void *dst, const void *src, size_t bytes);
    /* Waits until all that the queue was asked is done, and answers for it. NULL where there is no device. */
    int (*wait)(const weft_env *env);
    /* Marks how far the queue has been asked, and waits until it has done what it was asked before the last mark but one: so whoever
     * asks is never more than two marks ahead. NULL where there is no device. */
    int (*pace)(const weft_env *env);
    /* Recording. From record_begin() to record_end() what the queue is asked is noted and not done; replay() then asks for all of
     * it again, at once. Meanwhile memory may be had and not be given back, and copies between host and device fail.
     * record_begin() answers WEFT_K_NO_CASE where nothing is to be recorded. After record_end() the queue works as before, also
     * where it failed: *recording is then NULL. All four are NULL where there is no device. */
    int (*record_begin)(const weft_env *env);
    int (*record_end)(const weft_env *env, void **recording);
    int (*replay)(const weft_env *env, void *recording);
    void (*record_free)(void *stream, void *recording);
    /* What the device has, and has free. NULL where there is no device. */
    void (*mem_info)(void *stream, size_t *available, size_t *total);

    size_t (*pack_bytes)(const weft_pack_args *a);
#define K(name) int (*name)(const weft_env *env, const weft_##name##_args *a);
    WEFT_KERNEL_LIST(K)
#undef K
    uint32_t types[WEFT_KERNEL_COUNT];  /* bit t set: the kernel takes activations (pack: weights; copy: source) of type t */
} weft_kernels;

extern const char *const weft_kernel_names[WEFT_KERNEL_COUNT];

/* The naive one: every kernel in its plainest form, in double arithmetic, for f32, f16, bf16 and f64: the oracle of
 * the tests and the f64 path of gradient checks. */
const weft_kernels *weft_kernels_reference(void);

/* The fast one; chooses the instruction set once, at the first call. WEFT_ISA=avx512|avx2|portable in the
 * environment asks for a lesser one. f64 goes to the reference kernels. */
const weft_kernels *weft_kernels_cpu(void);

/* NVIDIA's GPUs: the table of the shared object weft_cuda.so, opened at the first call (kernels/cuda/load.c tells where it is looked
 * for). NULL where that fails: `error` (of `size` bytes) says why, and what to do. Whether there is a device only open() asks.
 * The same pointer ever after; safe from any thread. */
const weft_kernels *weft_kernels_cuda(char *error, size_t size);

#ifdef __cplusplus
}
#endif
#endif
