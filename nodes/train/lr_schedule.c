/* Learning-rate schedules; see lr_schedule.h. With w warm-up steps of T, at step s: s/w before w; then, p = (s − w)/(T
 * − w): linear max(0, 1 − p), cosine ½(1 + cos 2πcp), with restarts ½(1 + cos π(cp mod 1)) and 0 from p = 1 on,
 * polynomial from lr to `end` by (1 − p)^power. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "nodes/train/lr_schedule.h"

static const char *const names[WEFT_LR_COUNT] = { "constant", "constant_with_warmup", "linear", "cosine",
                                                  "cosine_with_restarts",
                                                  "polynomial", "piecewise_constant" };

const char *weft_lr_name(weft_lr_kind kind) { return (unsigned)kind < WEFT_LR_COUNT ? names[kind] : "?"; }

weft_lr_kind weft_lr_of(const char *name) {
    int i = 0;
    while (i < WEFT_LR_COUNT && strcmp(names[i], name)) i++;
    return (weft_lr_kind)i;
}

weft_lr_schedule weft_lr_defaults(weft_lr_kind kind) {
    return (weft_lr_schedule){ .kind = kind, .power = 1, .end = 1e-7, .last = 1 };
}

/* Keeps the rules sorted; a step that is named twice takes the later one. */
static bool add_rule(weft_lr_schedule *s, int64_t until, double factor) {
    int at = 0;
    while (at < s->rules && s->until[at] < until) at++;
    if (at == s->rules || s->until[at] != until) {
        if (s->rules == WEFT_LR_RULES) return false;
        memmove(s->until + at + 1, s->until + at, (size_t)(s->rules - at) * sizeof *s->until);
        memmove(s->factor + at + 1, s->factor + at, (size_t)(s->rules - at) * sizeof *s->factor);
        s->rules++;
    }
    s->until[at] = until;
    s->factor[at] = factor;
    return true;
}

bool weft_lr_rules(weft_ctx *c, weft_lr_schedule *s, const char *rules) {
    const char *p = rules;
    s->rules = 0;
    for (;;) {
        char *end;
        double factor = strtod(p, &end);
        if (end == p || !isfinite(factor)) break;
        if (!*end) {
            s->last = factor;
            return true;
        }
        if (*end != ':') break;
        p = end + 1;
        long long until = strtoll(p, &end, 10);
        if (end == p || *end != ',') break;
        p = end + 1;
        if (!add_rule(s, until, factor)) {
            weft_fail(c, WEFT_E_ARGUMENT, "the step rules \"%.100s\" are more than %d", rules, WEFT_LR_RULES);
            return false;
        }
    }
    weft_fail(c, WEFT_E_ARGUMENT, "the step rules \"%.100s\" are not FACTOR:STEP,…,FACTOR at byte %d", rules,
              (int)(p - rules));
    return false;
}

static double at_least_one(int64_t n) { return n > 1 ? (double)n : 1; }

double weft_lr_factor(const weft_lr_schedule *s, double lr, int64_t step) {
    if (s->kind == WEFT_LR_CONSTANT) return 1;
    if (s->kind == WEFT_LR_PIECEWISE_CONSTANT) {
        for (int i = 0; i < s->rules; i++)
            if (step < s->until[i]) return s->factor[i];
        return s->last;
    }
    if (step < s->warmup) return (double)step / at_least_one(s->warmup);
    if (s->kind == WEFT_LR_CONSTANT_WITH_WARMUP) return 1;
    const double steps = at_least_one(s->total - s->warmup), p = (double)(step - s->warmup) / steps;
    const double cycles = s->cycles ? s->cycles : s->kind == WEFT_LR_COSINE ? 0.5 : 1;
    switch (s->kind) {
    case WEFT_LR_LINEAR: return fmax(0, (double)(s->total - step) / steps);
    case WEFT_LR_COSINE: return fmax(0, 0.5 * (1 + cos(M_PI * cycles * 2 * p)));
    case WEFT_LR_COSINE_WITH_RESTARTS: return p >= 1 ? 0 : fmax(0, 0.5 * (1 + cos(M_PI * fmod(cycles * p, 1))));
    default:
        if (step > s->total || lr == 0) return lr == 0 ? 1 : s->end / lr;
        return ((lr - s->end) * pow(1 - p, s->power) + s->end) / lr;
    }
}
