/* Diffusers' schedulers, and denoising-diffusion-pytorch's: K(name) for weft_kind_name, in a file of its own. */
#ifndef WEFT_KINDS_LIST_H
#define WEFT_KINDS_LIST_H

#define WEFT_KINDS(K) \
    K(ddpm) K(ddim) K(pndm) K(unipc) K(euler_discrete) K(dpmsolver_multistep) K(gaussian_diffusion)

#endif
