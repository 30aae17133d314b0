#include "engine/pace.h"

#define FADE_PASS 0.95              /* weight of a pass after the next one */
#define FADE_OUTCOME 0.95
#define FADE_IDLE 0.995             /* without guesses, bad experience is forgotten slowly and another try is made */
#define PRIOR_RIGHT 0.7             /* before anything is known */
#define PRIOR_WEIGHT 1.0
#define PRIOR_SLOPE 0.1             /* what one more row costs, of a pass: reading weights is most of it */
#define SLOPE_WEIGHT 0.5            /* what was believed before counts like this much variance of T */
#define MOST_SURPRISE 2.0           /* a pass that takes longer met somebody else on the machine */
#define LEAST_SLOPE 1e-3

/* Seconds of a pass over T rows, on the line through what was measured. */
static double pass_cost(const ern_pace *p, double T) {
    if (p->weight <= 0.0) return 1.0 + PRIOR_SLOPE * (T - 1.0);
    const double mean_t = p->rows / p->weight, mean_s = p->seconds / p->weight;
    const double cost = mean_s * (1.0 + p->slope * (T - mean_t)), least = mean_s / (mean_t > 1.0 ? mean_t : 1.0);
    return cost > least ? cost : least;
}

/* The slope of that line, of the mean cost of a pass; where all passes are alike it stays what it was. */
static void fit(ern_pace *p) {
    const double mean_t = p->rows / p->weight, mean_s = p->seconds / p->weight;
    const double variance = p->rows2 / p->weight - mean_t * mean_t, covariance = p->rows_seconds / p->weight - mean_t * mean_s;
    if (p->slope <= 0.0) p->slope = PRIOR_SLOPE;
    if (mean_s > 0.0) p->slope = (covariance / mean_s + SLOPE_WEIGHT * p->slope) / (variance + SLOPE_WEIGHT);
    if (p->slope < LEAST_SLOPE) p->slope = LEAST_SLOPE;
}

size_t pace_length(ern_pace *p, enum pace_kind kind, size_t most) {
    const double a = (p->right[kind] + PRIOR_WEIGHT * PRIOR_RIGHT) / (p->tried[kind] + PRIOR_WEIGHT);
    double tokens = 1.0, likely = 1.0, best = 0.0;
    size_t n = 0;
    for (size_t k = 0; k <= most; k++) {        /* 1 + a + ... + a^k tokens are expected from k guesses */
        const double speed = tokens / (pass_cost(p, (double)k + 1.0) + p->draft_s * (double)k);
        if (speed > best) {
            best = speed;
            n = k;
        }
        likely *= a;
        tokens += likely;
    }
    if (n == 0 && most) {
        p->tried[kind] *= FADE_IDLE;
        p->right[kind] *= FADE_IDLE;
    }
    return n;
}

void pace_pass(ern_pace *p, size_t n_rows, double seconds) {
    const double T = (double)n_rows, most = MOST_SURPRISE * pass_cost(p, T);
    if (p->weight > 0.0 && seconds > most) seconds = most;
    p->weight = p->weight * FADE_PASS + 1.0;
    p->rows = p->rows * FADE_PASS + T;
    p->rows2 = p->rows2 * FADE_PASS + T * T;
    p->seconds = p->seconds * FADE_PASS + seconds;
    p->rows_seconds = p->rows_seconds * FADE_PASS + T * seconds;
    fit(p);
}

void pace_drafting(ern_pace *p, size_t n, double seconds) {
    if (n == 0) return;
    const double each = seconds / (double)n;
    p->draft_s = p->draft_s > 0.0 ? p->draft_s * FADE_OUTCOME + each * (1.0 - FADE_OUTCOME) : each;
}

void pace_outcome(ern_pace *p, enum pace_kind kind, size_t n_tried, size_t n_right) {
    p->tried[kind] = p->tried[kind] * FADE_OUTCOME + (double)n_tried;
    p->right[kind] = p->right[kind] * FADE_OUTCOME + (double)n_right;
}
