/* Copies into shared memory that run beside the computing: each thread's groups of them, see matrix.h. */
#include <deque>
#include <vector>
#include "matrix.h"

namespace {

struct copy { void *to; const void *from; bool there; unsigned barriers; };
struct copies {
    std::vector<copy> open;                     /* of the group that has not ended */
    std::deque<std::vector<copy>> ended;
};

copies of_thread[1024];
unsigned asked;

copies &mine() { return of_thread[threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)]; }

void run(copy &c) {
    if (!c.to) return;
    if (c.there) memcpy(c.to, c.from, 16);
    else memset(c.to, 0, 16);
    c.to = nullptr;                             /* done */
}

} // namespace

void copy_16(void *to, const void *from, bool there) {
    fake_check_16(to, "cp.async to shared memory");
    fake_check_16(from, "cp.async from global memory");
    const unsigned chance = asked++ * 2654435761u >> 16;
    copy c = { to, from, there, chance % 3 == 1 ? chance / 3 % 4 + 1 : 0 };
    if (fake_is_turing() || chance % 3 == 0) run(c);
    else mine().open.push_back(c);
}

void fake_copies_land() {
    copies &m = mine();
    for (copy &c : m.open)
        if (c.barriers && !--c.barriers) run(c);
    for (auto &group : m.ended)
        for (copy &c : group)
            if (c.barriers && !--c.barriers) run(c);
}

void copies_end() {
    copies &m = mine();
    m.ended.push_back(std::move(m.open));
    m.open.clear();
}

void fake_copies_wait(unsigned left) {
    copies &m = mine();
    while (m.ended.size() > left) {
        for (copy &c : m.ended.front()) run(c);
        m.ended.pop_front();
    }
}
