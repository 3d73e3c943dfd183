/* Every sampling method, in ComfyUI's order: one line each, M(name) for weft_method_name in a file of its own or beside its kin. */
#ifndef WEFT_METHODS_LIST_H
#define WEFT_METHODS_LIST_H

#define WEFT_METHODS(M) \
    M(euler) M(euler_ancestral) M(heun) M(dpm_2) M(dpm_2_ancestral) M(lms) M(dpmpp_2m) M(ddpm) M(lcm) M(ddim)

#endif
