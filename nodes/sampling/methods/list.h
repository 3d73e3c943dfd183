/* Every sampling method, in ComfyUI's order: M(name) for weft_method_name, in a file of its own or beside its kin. */
#ifndef WEFT_METHODS_LIST_H
#define WEFT_METHODS_LIST_H

#define WEFT_METHODS(M) \
    M(euler) M(euler_ancestral) M(heun) M(dpm_2) M(dpm_2_ancestral) M(lms) M(dpmpp_2s_ancestral) \
    M(dpmpp_sde) M(dpmpp_sde_gpu) M(dpmpp_2m) M(dpmpp_2m_sde) M(dpmpp_2m_sde_gpu) \
    M(dpmpp_2m_sde_heun) M(dpmpp_2m_sde_heun_gpu) M(dpmpp_3m_sde) M(dpmpp_3m_sde_gpu) M(ddpm) M(lcm) \
    M(ipndm) M(res_multistep) M(gradient_estimation) M(ddim) M(uni_pc) M(uni_pc_bh2)

#endif
