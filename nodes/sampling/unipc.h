/* UniPC's weights: Zhao et al., arXiv:2302.04867. For a step of h in λ = ln α − ln σ, with hh = −h on x₀ and h on ε:
 *
 *   φ = e^hh − 1,  B = hh (bh1) or φ (bh2),  D_j = (m_j − m_0)/r_j,  r_j = (λ_j − λ_0)/h,  r of the new evaluation 1
 *   on x₀:  x' = (σ'/σ)·x − α'·(φ·m_0 + B·Σ ρ_j·D_j)         on ε:  x' = (α'/α)·x − σ'·(φ·m_0 + B·Σ ρ_j·D_j)
 *
 * The predictor knows m_0 and earlier evaluations, the corrector the new one too.
 */
#ifndef WEFT_UNIPC_H
#define WEFT_UNIPC_H

#include <stdbool.h>

enum { WEFT_UNIPC_ORDER = 3 };

/* The factors of m_0 and of the others in the bracket, signs included: out[0] for m_0, out[j] for the j-th evaluation
 * before it, j < order; for a corrector out[order] for the new one. r: of the earlier ones, r[0] for the first before
 * m_0. */
void weft_unipc_weights(double hh, const double *r, int order, bool bh2, bool corrector, double *out);

#endif
