"""The functions that a C program calls, as far as it needs them; PREFIX is that of its names."""

FUNCTIONS = {
    "logistic": """\
/* 1 / (1 + exp(-z)), of exponentials that never overflow. */
static float PREFIX_logistic(float z)
{
    const float e = expf(-fabsf(z));
    return (z >= 0.0f ? 1.0f : e) / (1.0f + e);
}
""",
    "dense": """\
/* out = x w + b, with weights w[n][k] and biases b[k], or none (NULL). */
static void PREFIX_dense(
    const float *x, const float *w, const float *b, size_t n, size_t k, float *out)
{
    for (size_t j = 0; j < k; ++j) out[j] = b ? b[j] : 0.0f;
    for (size_t i = 0; i < n; ++i, w += k) {
        const float xi = x[i];
        if (xi == 0.0f) continue; /* as many outputs of relu are */
        for (size_t j = 0; j < k; ++j) out[j] += xi * w[j];
    }
}
""",
    "dense_int8": """\
/* out = b + scale * (w q), with whole numbers q = round(inverse * x) within the limits, and
   weights w[k][n]. The sums fit into 32 bits, whatever x is. */
static void PREFIX_dense_int8(
    const float *x, const float *inverse, float limit, const int8_t *w, const float *scale,
    const float *b, size_t n, size_t k, float *out)
{
    for (size_t i = 0; i < n; ++i) {
        float v = x[i] * inverse[i];
        v += v >= 0.0f ? 0.5f : -0.5f;
        if (!(v > -limit)) v = -limit; /* and where it is no number */
        if (v > limit) v = limit;
        PREFIX_whole[i] = (int16_t)v;
    }
    for (size_t j = 0; j < k; ++j, w += n) {
        int32_t sum = 0;
        for (size_t i = 0; i < n; ++i) sum += (int32_t)w[i] * PREFIX_whole[i];
        out[j] = (float)sum * scale[j] + (b ? b[j] : 0.0f);
    }
}
""",
    "look_up": """\
/* out = the row *x of w[n + 1][k]; the last one, if *x is none of the numbers from 0 to n - 1. */
static void PREFIX_look_up(const float *x, const float *w, size_t n, size_t k, float *out)
{
    const size_t row = *x >= 0.0f && *x < (float)n && *x == floorf(*x) ? (size_t)*x : n;
    for (size_t j = 0; j < k; ++j) out[j] = w[row * k + j];
}
""",
    "total": """\
/* out = the sum of n numbers. */
static void PREFIX_total(const float *x, size_t n, float *out)
{
    float sum = 0.0f;
    for (size_t i = 0; i < n; ++i) sum += x[i];
    *out = sum;
}
""",
    "softmax": """\
/* out = exp(x) / sum(exp(x)), of exponents that are at most zero. */
static void PREFIX_softmax(const float *x, size_t n, float *out)
{
    float largest = x[0], sum = 0.0f;
    for (size_t i = 1; i < n; ++i) if (x[i] > largest) largest = x[i];
    for (size_t i = 0; i < n; ++i) sum += out[i] = expf(x[i] - largest);
    for (size_t i = 0; i < n; ++i) out[i] /= sum;
}
""",
    "mean": """\
/* out = the mean over m members of their n numbers. */
static void PREFIX_mean(const float *x, size_t m, size_t n, float *out)
{
    for (size_t i = 0; i < n; ++i) {
        float sum = 0.0f;
        for (size_t member = 0; member < m; ++member) sum += x[member * n + i];
        out[i] = sum / (float)m;
    }
}
""",
    "largest": """\
/* Which of n numbers is the largest: the first of those that are. */
static int PREFIX_largest(const float *x, size_t n)
{
    size_t largest = 0;
    for (size_t i = 1; i < n; ++i) if (x[i] > x[largest]) largest = i;
    return (int)largest;
}
""",
}
