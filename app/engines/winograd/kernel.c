/* Convolutions of a network of 8-bit integers, for processors that have AVX2 and nothing made for networks.
 *
 * Such a processor multiplies 8-bit integers little faster than 16-bit ones: it has to widen the products by a
 * second multiplication. So a 3x3 convolution gains by needing fewer of them. Winograd's minimal filtering
 * F(m x m, 3 x 3) computes m x m results of a channel from a tile of (m + 2) x (m + 2) values with (m + 2)^2
 * multiplications in place of 9 m^2: 2.25 times fewer for m = 2, four times for m = 4 (Lavin & Gray 2015,
 * https://arxiv.org/abs/1509.09308). With v a tile and w a filter,
 *
 *     result = A^T [ (G w G^T) * (B^T v B) ] A        (* element by element)
 *
 * The fractions in G are cleared by scaling its rows, so that both factors are whole numbers, and what was
 * scaled is put right at the end. Both then fit 16 bits: activations have 8, and B adds 6 at most. The sums
 * over the channels are exact in 32 bits as long as `pack` says so. Nothing is rounded but the result, which
 * is that of the plain sum in float32.
 *
 * The products of all channels at one place of the tiles are a matrix product, [tiles, in] x [in, out], which
 * takes nearly all of the time. A convolution of 1x1 is one such product by itself.
 *
 * Layouts: activations are uint8 [image][height + 2][width + 2][channel] within a border of zeros, which
 * nothing writes to; kept sums are float32 [image][height][width][channel].
 */

#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    TILES = 36,        /* transformed at a time, so that they and their products stay in the cache */
    PANEL = 16,        /* columns of a matrix product that the registers hold for ... */
    ROWS = 6,          /* ... this many rows */
    CHUNK = 32,        /* output channels computed at a time */
    GAP = 32,          /* values between the planes of points, which would share a few places in the cache */
    FEW = 12,          /* tiles for which weights are transformed anew, rather than read transformed */
    MOST_POINTS = 36,
    MOST_BUFFERS = 32,
    COLOURS = 3,
    STEM_DEPTH = 9 * COLOURS,
    STEM_PLACES = 8,
};

/* How a convolution is computed: as one matrix product; as Winograd's F(2x2, 3x3) or F(4x4, 3x3); or, where the
 * stride is 2, as F(2x2, 2x2) of the even pixels and what the odd ones add: with w = (a, b, c), the results
 * a v0 + b v1 + c v2 and a v2 + b v3 + c v4 need five multiplications in place of six, in two dimensions 25 of
 * 36. */
enum { DIRECT, WINOGRAD_2, WINOGRAD_4, STRIDED_2 };

typedef struct {
    int32_t form, kernel, stride;
    int32_t in_channels, out_channels;
    int32_t in_height, in_width, out_height, out_width;
    int32_t input, output;        /* activations read and written; output may be -1 */
    int32_t addend, kept;         /* sums added before the ReLU, and kept after it; -1 for none */
    int32_t has_relu;
    const int16_t *weights;       /* as `pack` made them */
    const int8_t *taps;           /* as `pack_taps` made them; NULL if `weights` are always read */
    const float *scale, *bias;    /* [out_channels]; the scale of the sums of whole numbers */
    float steps_per_unit;         /* of what is written to the output */
} Convolution;

/* The first convolution, of pixels that are scaled and shifted, in float32. */
typedef struct {
    int32_t height, width, out_channels, output, kept;
    const float *factor, *shift;  /* [COLOURS] */
    const float *weights;         /* [out_channels / 8][STEM_DEPTH][8] */
    const float *bias;
    float steps_per_unit;
} Stem;

/* What follows the last convolution: the mean over all places, classes, and the distance to their centres. */
typedef struct {
    int32_t input, places, features, classes;
    const float *weights, *bias;  /* [classes][features], [classes] */
    const float *directions;      /* [features][features] */
    const float *centres;         /* [classes][features], subtracted */
    float least_square, distance_factor;
} Head;

typedef struct {
    const Stem *stem;
    const Convolution *convolutions;
    int32_t count;
    int32_t alone;                /* convolutions computed picture by picture; the others, together */
    const Head *head;
} Network;

/* Memory for one batch. A buffer whose pictures are computed one by one is shared by all: its step is 0. */
typedef struct {
    uint8_t *activations[MOST_BUFFERS];
    float *sums[MOST_BUFFERS];
    int64_t activation_steps[MOST_BUFFERS], sum_steps[MOST_BUFFERS]; /* from picture to picture, in elements */
} Buffers;

/* What one thread needs; see `workspace`. */
typedef struct {
    int16_t *values, *weights;
    int32_t *products;
    float *pixels, *features;
} Scratch;

/* For functions of sizes that are known where they are called: a copy for each is several times faster. */
#define INLINE static inline __attribute__((always_inline))

static inline int smaller(int a, int b) { return a < b ? a : b; }

/* ---- the matrix product -------------------------------------------------------------------------------- */

/* Two values beside each other, which are not read as what they were written. */
typedef int32_t __attribute__((may_alias)) Pair;

/* Written out, since compilers spill the twelve sums. One step is a pair of channels: vpmaddwd multiplies
 * sixteen 16-bit numbers by sixteen others and adds each product to its neighbour. */
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define BEGIN(r) __m256i low##r = _mm256_setzero_si256(), high##r = low##r;
#define STEP(r)                                                                             \
    if (r < rows)                                                                           \
        __asm__("vpbroadcastd %[pair], %%ymm14\n\t"                                         \
                "vpmaddwd %%ymm14, %[left], %%ymm15\n\t"                                    \
                "vpaddd %%ymm15, %[low], %[low]\n\t"                                        \
                "vpmaddwd %%ymm14, %[right], %%ymm14\n\t"                                   \
                "vpaddd %%ymm14, %[high], %[high]"                                          \
                : [low] "+x"(low##r), [high] "+x"(high##r)                                  \
                : [pair] "m"(*(const Pair *)(a + r * depth)), [left] "x"(left), [right] "x"(right) \
                : "xmm14", "xmm15");
#define END(r)                                                                              \
    if (r < rows) {                                                                         \
        _mm256_store_si256((__m256i *)(c + r * columns), low##r);                           \
        _mm256_store_si256((__m256i *)(c + r * columns + PANEL / 2), high##r);              \
    }

INLINE void panel(
    const int16_t *a, const int16_t *b, int64_t depth, int32_t *c, const int columns, const int rows)
{
    EACH_ROW(BEGIN)
    for (int64_t k = 0; k < depth; k += 2, a += 2, b += 2 * PANEL) {
        __m256i left = _mm256_load_si256((const __m256i *)b);
        __m256i right = _mm256_load_si256((const __m256i *)(b + PANEL));
        EACH_ROW(STEP)
    }
    EACH_ROW(END)
}

/* c[rows][columns] = a[rows][depth] x b[columns / PANEL][depth / 2][PANEL][2] */
INLINE void multiply(
    const int16_t *a, const int16_t *b, int64_t depth, int rows, int32_t *c, const int columns)
{
    for (int32_t *end = c + columns; c < end; c += PANEL, b += depth * PANEL) {
        int row = 0;
        for (; row + ROWS <= rows; row += ROWS)
            panel(a + row * depth, b, depth, c + row * columns, columns, ROWS);
        const int16_t *from = a + row * depth;
        int32_t *to = c + row * columns;
        switch (rows - row) {
        case 1: panel(from, b, depth, to, columns, 1); break;
        case 2: panel(from, b, depth, to, columns, 2); break;
        case 3: panel(from, b, depth, to, columns, 3); break;
        case 4: panel(from, b, depth, to, columns, 4); break;
        case 5: panel(from, b, depth, to, columns, 5); break;
        }
    }
}

/* ---- one dimension of the transforms ------------------------------------------------------------------- */

/* Rows of G, scaled to whole numbers, and how far those of B^T reach: the sums of what is positive and of what
 * is negative in them. */
typedef struct {
    int16_t taps[6][3], reach[6][2];
} Transform;

static const Transform TRANSFORMS[] = {
    [WINOGRAD_2] = {{{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}}, {{1, 1}, {2, 0}, {1, 1}, {1, 1}}},
    [WINOGRAD_4] = {{{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {1, -2, 4}, {0, 0, 1}},
                    {{5, 5}, {2, 8}, {5, 5}, {3, 3}, {3, 3}, {5, 5}}},
    [STRIDED_2] = {{{1, 0, 0}, {1, 0, 1}, {0, 0, 1}, {0, 1, 0}}, {{1, 1}, {1, 0}, {1, 1}, {1, 0}}},
};

#define ADD(a, b) _mm256_add_epi16(a, b)
#define SUB(a, b) _mm256_sub_epi16(a, b)
#define TIMES_4(a) _mm256_slli_epi16(a, 2)

/* B^T v. Sums on the way may wrap around; what comes out fits, and is right. */
INLINE void values_2(const __m256i *v, int step, __m256i *to)
{
    const __m256i v0 = v[0], v1 = v[step], v2 = v[2 * step], v3 = v[3 * step];
    to[0] = SUB(v0, v2);
    to[1] = ADD(v1, v2);
    to[2] = SUB(v2, v1);
    to[3] = SUB(v1, v3);
}

INLINE void values_strided_2(const __m256i *v, int step, __m256i *to)
{
    const __m256i v0 = v[0], v1 = v[step], v2 = v[2 * step], v3 = v[3 * step], v4 = v[4 * step];
    to[0] = SUB(v0, v2);
    to[1] = v2;
    to[2] = SUB(v4, v2);
    to[3] = v1;
    to[4] = v3;
}

INLINE void values_4(const __m256i *v, int step, __m256i *to)
{
    const __m256i v0 = v[0], v1 = v[step], v2 = v[2 * step];
    const __m256i v3 = v[3 * step], v4 = v[4 * step], v5 = v[5 * step];
    const __m256i even = SUB(v4, v2), odd = SUB(v3, v1), twice = ADD(odd, odd);
    const __m256i even_4 = SUB(v4, TIMES_4(v2)), odd_4 = SUB(v3, TIMES_4(v1));
    to[0] = ADD(TIMES_4(SUB(v0, v2)), even);
    to[1] = ADD(even_4, odd_4);
    to[2] = SUB(even_4, odd_4);
    to[3] = ADD(even, twice);
    to[4] = SUB(even, twice);
    to[5] = SUB(SUB(v5, v3), ADD(twice, twice));
}

/* A^T p, times 2: the rows of G had been. */
INLINE void results_2(const __m256 *p, int step, __m256 *to)
{
    const __m256 p0 = p[0], p1 = p[step], p2 = p[2 * step], p3 = p[3 * step];
    to[0] = _mm256_add_ps(p0, _mm256_add_ps(p1, p2));
    to[1] = _mm256_sub_ps(_mm256_sub_ps(p1, p2), p3);
}

INLINE void results_strided_2(const __m256 *p, int step, __m256 *to)
{
    const __m256 p0 = p[0], p1 = p[step], p2 = p[2 * step], p3 = p[3 * step], p4 = p[4 * step];
    to[0] = _mm256_add_ps(_mm256_add_ps(p0, p1), p3);
    to[1] = _mm256_add_ps(_mm256_add_ps(p1, p2), p4);
}

/* A^T p, times 24: the rows of G had been multiplied by 4, -6, -6, 24, 24 and 1. */
INLINE void results_4(const __m256 *p, int step, __m256 *to)
{
    const __m256 p0 = p[0], p1 = p[step], p2 = p[2 * step];
    const __m256 p3 = p[3 * step], p4 = p[4 * step], p5 = p[5 * step];
    const __m256 sum_12 = _mm256_mul_ps(_mm256_add_ps(p1, p2), _mm256_set1_ps(-4));
    const __m256 difference_12 = _mm256_mul_ps(_mm256_sub_ps(p1, p2), _mm256_set1_ps(-4));
    const __m256 sum_34 = _mm256_add_ps(p3, p4), difference_34 = _mm256_sub_ps(p3, p4);
    to[0] = _mm256_add_ps(_mm256_fmadd_ps(p0, _mm256_set1_ps(6), sum_12), sum_34);
    to[1] = _mm256_fmadd_ps(difference_34, _mm256_set1_ps(2), difference_12);
    to[2] = _mm256_fmadd_ps(sum_34, _mm256_set1_ps(4), sum_12);
    const __m256 last = _mm256_fmadd_ps(difference_34, _mm256_set1_ps(8), difference_12);
    to[3] = _mm256_fmadd_ps(p5, _mm256_set1_ps(24), last);
}

/* Results of a tile in one dimension, values that they need, and taps transformed. */
INLINE int side_of(int form) { return form == WINOGRAD_4 ? 4 : form == DIRECT ? 1 : 2; }
INLINE int size_of(int form) { return form == WINOGRAD_4 ? 6 : form == WINOGRAD_2 ? 4 : 5; }
INLINE int taps_of(int form) { return form == WINOGRAD_4 ? 6 : 4; }

/* Which transformed taps belong to a point of the tile: both odd values of STRIDED_2 have the same. */
INLINE int taps_at(int point, int form)
{
    const int size = size_of(form), taps = taps_of(form), i = point / size, j = point % size;
    return smaller(i, taps - 1) * taps + smaller(j, taps - 1);
}

INLINE void transform_line(const __m256i *v, int step, __m256i *to, const int form)
{
    switch (form) {
    case WINOGRAD_4: values_4(v, step, to); break;
    case WINOGRAD_2: values_2(v, step, to); break;
    default: values_strided_2(v, step, to);
    }
}

/* G w. The compiler knows the numbers of G, and multiplies by none of them. */
INLINE void transform_taps_line(const __m256i *w, int step, __m256i *to, const int form)
{
    typedef int16_t __attribute__((vector_size(32))) Words;
    const Words w0 = (Words)w[0], w1 = (Words)w[step], w2 = (Words)w[2 * step];
    for (int i = 0; i < taps_of(form); i++) {
        const int16_t *g = TRANSFORMS[form].taps[i];
        to[i] = (__m256i)((w0 * g[0] + w2 * g[2]) + w1 * g[1]);
    }
}

INLINE void restore_line(const __m256 *p, int step, __m256 *to, const int form)
{
    switch (form) {
    case WINOGRAD_4: results_4(p, step, to); break;
    case WINOGRAD_2: results_2(p, step, to); break;
    default: results_strided_2(p, step, to);
    }
}

/* ---- a convolution ------------------------------------------------------------------------------------- */

/* Eight channels of activations, from float32. */
static inline void write_steps(__m256 value, float steps_per_unit, uint8_t *to)
{
    __m256i steps = _mm256_cvtps_epi32(_mm256_mul_ps(value, _mm256_set1_ps(steps_per_unit)));
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(steps), _mm256_extracti128_si256(steps, 1));
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(words, words));
}

/* Where a tile of `side` x `side` results is, tiles being numbered through all pictures. */
typedef struct {
    int image, row, column;
} Place;

static inline Place place_of(const Convolution *by, int tile, int side)
{
    const int in_row = by->out_width / side, in_image = by->out_height / side * in_row;
    return (Place){tile / in_image, tile % in_image / in_row * side, tile % in_row * side};
}

/* Where the results of a tile go, and what is added to them: its first place; NULL for what is not. */
typedef struct {
    const float *addend;
    float *kept;
    uint8_t *output;
    int64_t sum_line, output_line; /* elements from a row to the next */
} Target;

static inline Target target_at(const Convolution *by, const Buffers *in, Place at)
{
    const int64_t sum_line = (int64_t)by->out_width * by->out_channels;
    const int64_t output_line = sum_line + 2 * by->out_channels;
    const int64_t place = at.row * sum_line + (int64_t)at.column * by->out_channels;
    const int64_t within_border = (at.row + 1) * output_line + (int64_t)(at.column + 1) * by->out_channels;
    Target target = {NULL, NULL, NULL, sum_line, output_line};
    if (by->addend >= 0) target.addend = in->sums[by->addend] + at.image * in->sum_steps[by->addend] + place;
    if (by->kept >= 0) target.kept = in->sums[by->kept] + at.image * in->sum_steps[by->kept] + place;
    if (by->output >= 0)
        target.output =
            in->activations[by->output] + at.image * in->activation_steps[by->output] + within_border;
    return target;
}

/* Finishes eight channels of `side` x `side` results, which are sums of whole numbers. */
INLINE void finish(
    const Convolution *by, const Target *to, __m256 results[][4], int channel, const int side)
{
    const __m256 scale = _mm256_loadu_ps(by->scale + channel), bias = _mm256_loadu_ps(by->bias + channel);
    const __m256 least = _mm256_set1_ps(by->has_relu ? 0 : -INFINITY);
    for (int i = 0; i < side; i++) {
        const int64_t sum_at = i * to->sum_line + channel, output_at = i * to->output_line + channel;
        for (int j = 0; j < side; j++) {
            const int64_t column = (int64_t)j * by->out_channels;
            __m256 value = _mm256_fmadd_ps(results[i][j], scale, bias);
            if (to->addend) value = _mm256_add_ps(value, _mm256_loadu_ps(to->addend + sum_at + column));
            value = _mm256_max_ps(value, least);
            if (to->kept) _mm256_storeu_ps(to->kept + sum_at + column, value);
            if (to->output) write_steps(value, by->steps_per_unit, to->output + output_at + column);
        }
    }
}

/* Where the window of a result begins: that of a 3x3 of stride 1 on the border, the others behind it. */
static inline const uint8_t *input_at(const Convolution *by, const Buffers *in, Place at)
{
    const uint8_t *image = in->activations[by->input] + at.image * in->activation_steps[by->input];
    const int border = by->kernel == 3 && by->stride == 1 ? 0 : 1;
    const int64_t row = at.row * by->stride + border, column = at.column * by->stride + border;
    return image + (row * (by->in_width + 2) + column) * by->in_channels;
}

/* values[point][tiles][in_channels] of the tiles from `first`, with a gap behind each point. */
INLINE void transform(
    const Convolution *by, const Buffers *in, int first, int tiles, int16_t *values, const int form)
{
    const int size = size_of(form), channels = by->in_channels;
    const int64_t line = (int64_t)(by->in_width + 2) * channels, plane = (int64_t)tiles * channels + GAP;
    for (int tile = 0; tile < tiles; tile++) {
        const uint8_t *from = input_at(by, in, place_of(by, first + tile, side_of(form)));
        for (int channel = 0; channel < channels; channel += 16) {
            __m256i v[6], half[6][6];
            for (int j = 0; j < size; j++) {
                for (int i = 0; i < size; i++) {
                    const uint8_t *at = from + i * line + j * channels + channel;
                    v[i] = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)at));
                }
                transform_line(v, 1, half[j], form);
            }
            for (int i = 0; i < size; i++) {
                transform_line(&half[0][i], 6, v, form);
                int16_t *to = values + i * size * plane + (int64_t)tile * channels + channel;
                for (int j = 0; j < size; j++) _mm256_store_si256((__m256i *)(to + j * plane), v[j]);
            }
        }
    }
}

/* weights[taps][in_channels / 2][PANEL][2] of a panel of output channels, with a gap behind each. */
INLINE void transform_taps(const Convolution *by, int number, int16_t *weights, const int form)
{
    const int count = taps_of(form), channels = by->in_channels;
    const int64_t plane = (int64_t)channels * PANEL + GAP;
    const int8_t *taps = by->taps + (int64_t)number * 9 * channels * PANEL;
    for (int n = 0; n < channels; n++, taps += 9 * PANEL, weights += PANEL) {
        __m256i w[9], half[3][6], whole[6];
        for (int k = 0; k < 9; k++) w[k] = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)taps + k));
        for (int k = 0; k < 3; k++) transform_taps_line(w + k, 3, half[k], form);
        for (int i = 0; i < count; i++) {
            transform_taps_line(&half[0][i], 6, whole, form);
            for (int j = 0; j < count; j++)
                _mm256_store_si256((__m256i *)(weights + (i * count + j) * plane), whole[j]);
        }
    }
}

/* Results of the tiles from `first`, from products[point][TILES][columns], from this channel on. */
INLINE void restore(
    const Convolution *by, const Buffers *in, int first, int tiles, int from_channel, const int32_t *products,
    const int columns, const int form)
{
    const int size = size_of(form), side = side_of(form);
    for (int tile = 0; tile < tiles; tile++) {
        const Target target = target_at(by, in, place_of(by, first + tile, side));
        for (int channel = 0; channel < columns; channel += 8) {
            const int32_t *from = products + tile * columns + channel;
            __m256 p[6], half[6][4], results[4][4];
            for (int j = 0; j < size; j++) {
                for (int i = 0; i < size; i++) {
                    const int32_t *product = from + (i * size + j) * TILES * columns;
                    p[i] = _mm256_cvtepi32_ps(_mm256_load_si256((const __m256i *)product));
                }
                restore_line(p, 1, half[j], form);
            }
            for (int i = 0; i < side; i++) restore_line(&half[0][i], 4, results[i], form);
            finish(by, &target, results, from_channel + channel, side);
        }
    }
}

typedef struct {
    int from, to;
} Range;

/* `channels` begin and end at multiples of CHUNK. */
INLINE void winograd_many(
    const Convolution *by, const Buffers *in, const Scratch *scratch, Range tiles, Range channels,
    const int form)
{
    const int points = size_of(form) * size_of(form);
    const int64_t depth = by->in_channels;
    for (int first = tiles.from; first < tiles.to; first += TILES) {
        const int count = smaller(TILES, tiles.to - first);
        const int64_t plane = count * depth + GAP;
        transform(by, in, first, count, scratch->values, form);
        for (int channel = channels.from; channel < channels.to; channel += CHUNK) {
            for (int point = 0; point < points; point++) {
                const int64_t column = (int64_t)taps_at(point, form) * by->out_channels + channel;
                multiply(scratch->values + point * plane, by->weights + column * depth, depth, count,
                         scratch->products + point * TILES * CHUNK, CHUNK);
            }
            restore(by, in, first, count, channel, scratch->products, CHUNK, form);
        }
    }
}

/* The same for a few tiles, for which transformed weights would be read once and take longer to read than to
 * compute: of 512 channels they are 8 MB, where the taps are 2. */
INLINE void winograd_few(
    const Convolution *by, const Buffers *in, const Scratch *scratch, Range tiles, Range channels,
    const int form)
{
    const int points = size_of(form) * size_of(form), count = tiles.to - tiles.from;
    const int64_t depth = by->in_channels;
    transform(by, in, tiles.from, count, scratch->values, form);
    for (int channel = channels.from; channel < channels.to; channel += PANEL) {
        transform_taps(by, channel / PANEL, scratch->weights, form);
        for (int point = 0; point < points; point++)
            multiply(scratch->values + point * (count * depth + GAP),
                     scratch->weights + taps_at(point, form) * (depth * PANEL + GAP), depth, count,
                     scratch->products + point * TILES * PANEL, PANEL);
        restore(by, in, tiles.from, count, channel, scratch->products, PANEL, form);
    }
}

INLINE void winograd(
    const Convolution *by, const Buffers *in, const Scratch *scratch, Range tiles, Range channels,
    const int form)
{
    if (by->taps && tiles.to - tiles.from <= FEW) winograd_few(by, in, scratch, tiles, channels, form);
    else winograd_many(by, in, scratch, tiles, channels, form);
}

static void direct(
    const Convolution *by, const Buffers *in, const Scratch *scratch, Range places, Range channels)
{
    const int in_channels = by->in_channels, row = by->kernel * in_channels;
    const int64_t depth = (int64_t)by->kernel * row, line = (int64_t)(by->in_width + 2) * in_channels;
    for (int first = places.from; first < places.to; first += TILES) {
        const int count = smaller(TILES, places.to - first);
        int16_t *to = scratch->values;
        for (int n = 0; n < count; n++) {
            const uint8_t *from = input_at(by, in, place_of(by, first + n, 1));
            for (int i = 0; i < by->kernel; i++)
                for (int k = 0; k < row; k += 16, to += 16) {
                    __m128i steps = _mm_loadu_si128((const __m128i *)(from + i * line + k));
                    _mm256_store_si256((__m256i *)to, _mm256_cvtepu8_epi16(steps));
                }
        }
        for (int channel = channels.from; channel < channels.to; channel += CHUNK) {
            multiply(scratch->values, by->weights + channel * depth, depth, count, scratch->products, CHUNK);
            for (int n = 0; n < count; n++) {
                const Target target = target_at(by, in, place_of(by, first + n, 1));
                for (int c = 0; c < CHUNK; c += 8) {
                    const __m256i *sum = (const __m256i *)(scratch->products + n * CHUNK + c);
                    __m256 result[1][4] = {{_mm256_cvtepi32_ps(_mm256_load_si256(sum))}};
                    finish(by, &target, result, channel + c, 1);
                }
            }
        }
    }
}

static int tiles_in_image(const Convolution *by)
{
    return by->out_height * by->out_width / (side_of(by->form) * side_of(by->form));
}

static void convolve(
    const Convolution *by, const Buffers *in, const Scratch *scratch, Range tiles, Range channels)
{
    switch (by->form) {
    case WINOGRAD_4: winograd(by, in, scratch, tiles, channels, WINOGRAD_4); break;
    case WINOGRAD_2: winograd(by, in, scratch, tiles, channels, WINOGRAD_2); break;
    case STRIDED_2: winograd(by, in, scratch, tiles, channels, STRIDED_2); break;
    default: direct(by, in, scratch, tiles, channels);
    }
}

static void convolve_images(const Convolution *by, const Buffers *in, const Scratch *scratch, Range images)
{
    const int tiles = tiles_in_image(by);
    convolve(by, in, scratch, (Range){images.from * tiles, images.to * tiles}, (Range){0, by->out_channels});
}

/* ---- before and after ---------------------------------------------------------------------------------- */

/* [height + 2][width + 2][COLOURS], within a border that stays 0. */
static void scale_pixels(const Stem *stem, const uint8_t *image, float *pixels)
{
    for (int y = 0; y < stem->height; y++) {
        float *to = pixels + ((int64_t)(y + 1) * (stem->width + 2) + 1) * COLOURS;
        for (int x = 0; x < stem->width; x++)
            for (int c = 0; c < COLOURS; c++) *to++ = *image++ * stem->factor[c] + stem->shift[c];
    }
}

/* The windows of STEM_PLACES places in a row; what is right of the picture has that of its last place. */
static void gather(const Stem *stem, const float *pixels, int row, int column, float windows[][STEM_DEPTH])
{
    const int64_t line = (int64_t)(stem->width + 2) * COLOURS;
    for (int n = 0; n < STEM_PLACES; n++) {
        const float *from = pixels + row * line + smaller(column + n, stem->width - 1) * COLOURS;
        for (int i = 0; i < 3; i++) memcpy(&windows[n][9 * i], from + i * line, 9 * sizeof(float));
    }
}

static void begin(const Stem *stem, const Buffers *in, const Scratch *scratch, const uint8_t *image, int number)
{
    const int channels = stem->out_channels;
    uint8_t *output = stem->output < 0 ? NULL
        : in->activations[stem->output] + number * in->activation_steps[stem->output];
    float *kept = stem->kept < 0 ? NULL : in->sums[stem->kept] + number * in->sum_steps[stem->kept];
    scale_pixels(stem, image, scratch->pixels);
    for (int y = 0; y < stem->height; y++)
        for (int x = 0; x < stem->width; x += STEM_PLACES) {
            const int count = smaller(STEM_PLACES, stem->width - x);
            const int64_t place = ((int64_t)y * stem->width + x) * channels;
            const int64_t within_border = ((int64_t)(y + 1) * (stem->width + 2) + x + 1) * channels;
            float windows[STEM_PLACES][STEM_DEPTH];
            gather(stem, scratch->pixels, y, x, windows);
            for (int channel = 0; channel < channels; channel += 8) {
                const float *weights = stem->weights + channel * STEM_DEPTH;
                __m256 sums[STEM_PLACES];
                for (int n = 0; n < STEM_PLACES; n++) sums[n] = _mm256_loadu_ps(stem->bias + channel);
                for (int k = 0; k < STEM_DEPTH; k++) {
                    const __m256 weight = _mm256_loadu_ps(weights + 8 * k);
                    for (int n = 0; n < STEM_PLACES; n++)
                        sums[n] = _mm256_fmadd_ps(_mm256_broadcast_ss(&windows[n][k]), weight, sums[n]);
                }
                for (int n = 0; n < count; n++) {
                    const __m256 value = _mm256_max_ps(sums[n], _mm256_setzero_ps());
                    const int64_t at = (int64_t)n * channels + channel;
                    if (kept) _mm256_storeu_ps(kept + place + at, value);
                    if (output) write_steps(value, stem->steps_per_unit, output + within_border + at);
                }
            }
        }
}

static float sum_of(__m256 v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* `count` is a multiple of 8. */
static float dot(const float *a, const float *b, int count)
{
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < count; i += 8)
        sum = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), sum);
    return sum_of(sum);
}

static void softmax(float *values, int count)
{
    float most = values[0], sum = 0;
    for (int i = 1; i < count; i++)
        if (values[i] > most) most = values[i];
    for (int i = 0; i < count; i++) sum += values[i] = expf(values[i] - most);
    for (int i = 0; i < count; i++) values[i] /= sum;
}

static void end(
    const Head *head, const Buffers *in, const Scratch *scratch, int number, float *probabilities,
    float *distance)
{
    const int features = head->features;
    const float *from = in->sums[head->input] + number * in->sum_steps[head->input];
    float *mean = scratch->features, *turned = mean + features;
    for (int f = 0; f < features; f += 8) {
        __m256 sum = _mm256_setzero_ps();
        for (int place = 0; place < head->places; place++)
            sum = _mm256_add_ps(sum, _mm256_loadu_ps(from + (int64_t)place * features + f));
        _mm256_storeu_ps(mean + f, _mm256_div_ps(sum, _mm256_set1_ps((float)head->places)));
    }
    for (int k = 0; k < head->classes; k++)
        probabilities[k] = dot(mean, head->weights + (int64_t)k * features, features) + head->bias[k];
    softmax(probabilities, head->classes);

    const float square = dot(mean, mean, features);
    const float length = sqrtf(square > head->least_square ? square : head->least_square);
    for (int f = 0; f < features; f++)
        turned[f] = dot(mean, head->directions + (int64_t)f * features, features) / length;
    float nearest = INFINITY;
    for (int k = 0; k < head->classes; k++) {
        __m256 sum = _mm256_setzero_ps();
        for (int f = 0; f < features; f += 8) {
            __m256 away = _mm256_sub_ps(_mm256_loadu_ps(turned + f),
                                        _mm256_loadu_ps(head->centres + (int64_t)k * features + f));
            sum = _mm256_fmadd_ps(away, away, sum);
        }
        const float squared = sum_of(sum);
        if (squared < nearest) nearest = squared;
    }
    *distance = nearest * head->distance_factor;
}

/* ---- several cores ------------------------------------------------------------------------------------- */

/* How far a step of a lone picture is, the stem or a convolution: parts that somebody has taken, and parts that
 * are done. */
typedef struct {
    atomic_int taken, done;
} Progress;

/* Threads that compute a lone picture together with the one that asks; and how many may ask for a batch of
 * their own at the same time.
 *
 * Whoever is free takes the next part of a convolution, and the next convolution begins when all parts of the
 * one before are done. So a thread that the system has stopped between two parts, as it does where others want
 * the cores, keeps nobody waiting. */
typedef struct {
    sem_t permits;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    pthread_t *helpers;
    int size;                     /* threads that share a picture, the one that asks among them */
    Progress *progress;           /* [1 + convolutions] */
    int round;                    /* of sharing; under the lock, as are the next three */
    int inside;                   /* helpers that are at work on it */
    bool is_open;                 /* to helpers */
    bool is_over;
    const Network *network;
    const Buffers *buffers;
    const Scratch *scratches;     /* [size] */
    const uint8_t *image;
} Crew;

typedef struct {
    Crew *crew;
    int number;
} Seat;

enum { PARTS_EACH = 2, SPINS_BEFORE_YIELD = 1000 };

static Range share_of(int count, int part, int parts)
{
    return (Range){(int)((int64_t)count * part / parts), (int)((int64_t)count * (part + 1) / parts)};
}

/* Every part of channels transforms all tiles, so where there are many, each part has some of these. */
static void convolve_part(const Convolution *by, const Crew *crew, const Scratch *scratch, int part, int parts)
{
    Range tiles = {0, tiles_in_image(by)}, channels = {0, by->out_channels};
    if (tiles.to >= TILES) {
        tiles = share_of(tiles.to, part, parts);
    } else {
        const Range chunks = share_of(by->out_channels / CHUNK, part, parts);
        channels = (Range){chunks.from * CHUNK, chunks.to * CHUNK};
    }
    convolve(by, crew->buffers, scratch, tiles, channels);
}

static void work(Crew *crew, int seat)
{
    const Scratch *scratch = &crew->scratches[seat];
    for (int step = 0; step <= crew->network->count; step++) {
        const int parts = step ? PARTS_EACH * crew->size : 1;
        Progress *progress = &crew->progress[step];
        for (int part; (part = atomic_fetch_add(&progress->taken, 1)) < parts;) {
            if (step) convolve_part(&crew->network->convolutions[step - 1], crew, scratch, part, parts);
            else begin(crew->network->stem, crew->buffers, scratch, crew->image, 0);
            atomic_fetch_add(&progress->done, 1);
        }
        for (int spins = 0; atomic_load(&progress->done) < parts; spins++) {
            if (spins < SPINS_BEFORE_YIELD) _mm_pause();
            else sched_yield(); /* whoever has the last part may need this core */
        }
    }
}

static void *help(void *argument)
{
    const Seat seat = *(Seat *)argument;
    Crew *crew = seat.crew;
    free(argument);
    pthread_mutex_lock(&crew->lock);
    for (int round = 0;;) {
        while (!crew->is_over && (crew->round == round || !crew->is_open))
            pthread_cond_wait(&crew->woken, &crew->lock);
        if (crew->is_over) break;
        round = crew->round;
        crew->inside++;
        pthread_mutex_unlock(&crew->lock);
        work(crew, seat.number);
        pthread_mutex_lock(&crew->lock);
        crew->inside--;
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

/* Whether helpers may come: not while one that was stopped is still on its way out of the round before. */
static bool open_round(
    Crew *crew, const Network *network, const Buffers *buffers, const Scratch *scratches, const uint8_t *image)
{
    pthread_mutex_lock(&crew->lock);
    const bool is_free = crew->size > 1 && !crew->inside;
    if (is_free) {
        crew->network = network;
        crew->buffers = buffers;
        crew->scratches = scratches;
        crew->image = image;
        for (int step = 0; step <= network->count; step++) {
            atomic_store(&crew->progress[step].taken, 0);
            atomic_store(&crew->progress[step].done, 0);
        }
        crew->round++;
        crew->is_open = true;
        pthread_cond_broadcast(&crew->woken);
    }
    pthread_mutex_unlock(&crew->lock);
    return is_free;
}

static void close_round(Crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->is_open = false;
    pthread_mutex_unlock(&crew->lock);
}

/* ---- what Python calls --------------------------------------------------------------------------------- */

void crew_end(Crew *crew);

/* For `permits` batches at the same time, and `size` threads for a lone picture of a network of so many
 * convolutions. NULL if there are no threads, or no memory. */
Crew *crew_begin(int permits, int size, int convolutions)
{
    Crew *crew = calloc(1, sizeof *crew);
    if (!crew) return NULL;
    sem_init(&crew->permits, 0, (unsigned)permits);
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->woken, NULL);
    crew->helpers = calloc((size_t)size, sizeof *crew->helpers);
    crew->progress = calloc((size_t)convolutions + 1, sizeof *crew->progress);
    crew->size = 1;
    bool is_complete = crew->helpers && crew->progress;
    while (is_complete && crew->size < size) {
        Seat *seat = malloc(sizeof *seat);
        if (seat) *seat = (Seat){crew, crew->size};
        is_complete = seat && !pthread_create(&crew->helpers[crew->size - 1], NULL, help, seat);
        if (is_complete) crew->size++;
        else free(seat);
    }
    if (is_complete) return crew;
    crew_end(crew);
    return NULL;
}

/* Nobody may be computing, and nobody may ask any more. */
void crew_end(Crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->is_over = true;
    pthread_cond_broadcast(&crew->woken);
    pthread_mutex_unlock(&crew->lock);
    for (int part = 1; part < crew->size; part++) pthread_join(crew->helpers[part - 1], NULL);
    pthread_cond_destroy(&crew->woken);
    pthread_mutex_destroy(&crew->lock);
    sem_destroy(&crew->permits);
    free(crew->progress);
    free(crew->helpers);
    free(crew);
}

/* probabilities[count][classes] and distances[count] of images uint8 [count][height][width][COLOURS]. It waits
 * for a permit: whoever is in line begins without asking Python. */
void classify(Crew *crew, const Network *network, const Buffers *buffers, const Scratch *scratch,
              const uint8_t *images, int count, float *probabilities, float *distances)
{
    const int64_t image_bytes = (int64_t)network->stem->height * network->stem->width * COLOURS;
    while (sem_wait(&crew->permits)) {} /* a signal may interrupt it */
    for (int image = 0; image < count; image++) {
        begin(network->stem, buffers, scratch, images + image * image_bytes, image);
        for (int n = 0; n < network->alone; n++)
            convolve_images(&network->convolutions[n], buffers, scratch, (Range){image, image + 1});
    }
    for (int n = network->alone; n < network->count; n++)
        convolve_images(&network->convolutions[n], buffers, scratch, (Range){0, count});
    for (int image = 0; image < count; image++)
        end(network->head, buffers, scratch, image, probabilities + (int64_t)image * network->head->classes,
            distances + image);
    sem_post(&crew->permits);
}

/* The same for one picture, by the whole crew, which one thread at a time may ask; scratches[crew's size]. */
void classify_alone(Crew *crew, const Network *network, const Buffers *buffers, const Scratch *scratches,
                    const uint8_t *image, float *probabilities, float *distance)
{
    if (open_round(crew, network, buffers, scratches, image)) {
        work(crew, 0);
        close_round(crew);
    } else {
        begin(network->stem, buffers, scratches, image, 0);
        for (int n = 0; n < network->count; n++)
            convolve_images(&network->convolutions[n], buffers, scratches, (Range){0, 1});
    }
    end(network->head, buffers, scratches, 0, probabilities, distance);
}

/* How many values, weights and products a thread needs for this convolution. */
void workspace(const Convolution *by, int64_t *values, int64_t *weights, int64_t *products)
{
    const int points = by->form == DIRECT ? 1 : size_of(by->form) * size_of(by->form);
    const int64_t depth = by->in_channels * (by->form == DIRECT ? (int64_t)by->kernel * by->kernel : 1);
    *values = points * (TILES * depth + GAP);
    *weights = by->taps ? taps_of(by->form) * taps_of(by->form) * (depth * PANEL + GAP) : 0;
    *products = (int64_t)points * TILES * CHUNK;
}

static inline int64_t packed(int64_t depth, int channels, int point, int k, int channel)
{
    const int64_t at = ((int64_t)point * channels + channel / PANEL * PANEL) * depth;
    return at + k / 2 * 2 * PANEL + channel % PANEL * 2 + k % 2;
}

/* Weights int8 [out][in][kernel][kernel] as `multiply` wants them, [point][out / PANEL][depth / 2][PANEL][2].
 * Returns how large the sum of products may get, whatever the picture; below 2^31 all of it is exact. */
double pack(const int8_t *weights, int out, int in, int kernel, int form, int16_t *to)
{
    const int size = taps_of(form), taps = kernel * kernel;
    const Transform *by = &TRANSFORMS[form];
    double most = 0;
    for (int o = 0; o < out; o++) {
        double reach[MOST_POINTS] = {0};
        for (int c = 0; c < in; c++) {
            const int8_t *w = weights + ((int64_t)o * in + c) * taps;
            if (form == DIRECT) {
                for (int k = 0; k < taps; k++) {
                    to[packed((int64_t)taps * in, out, 0, k * in + c, o)] = w[k];
                    reach[0] += 255.0 * abs(w[k]);
                }
                continue;
            }
            int half[6][3];
            for (int i = 0; i < size; i++)
                for (int k = 0; k < 3; k++)
                    half[i][k] = by->taps[i][0] * w[k] + by->taps[i][1] * w[3 + k] + by->taps[i][2] * w[6 + k];
            for (int i = 0; i < size; i++)
                for (int j = 0; j < size; j++) {
                    const int16_t *g = by->taps[j], *a = by->reach[i], *b = by->reach[j];
                    const int u = g[0] * half[i][0] + g[1] * half[i][1] + g[2] * half[i][2];
                    const int same = a[0] * b[0] + a[1] * b[1], other = a[0] * b[1] + a[1] * b[0];
                    to[packed(in, out, i * size + j, c, o)] = (int16_t)u;
                    reach[i * size + j] += 255.0 * (same > other ? same : other) * abs(u);
                }
        }
        for (int point = 0; point < MOST_POINTS; point++)
            if (reach[point] > most) most = reach[point];
    }
    return most;
}

/* Taps int8 [out][in][3][3] in the order of `pack`, the nine of a register together:
 * [out / PANEL][in / 2][half of the panel][9][PANEL / 2][2]. */
void pack_taps(const int8_t *weights, int out, int in, int8_t *to)
{
    for (int o = 0; o < out; o++)
        for (int c = 0; c < in; c++)
            for (int k = 0; k < 9; k++) {
                const int64_t half = (int64_t)(o / PANEL) * in + c / 2 * 2 + o % PANEL / (PANEL / 2);
                const int lane = o % (PANEL / 2) * 2 + c % 2;
                to[(half * 9 + k) * PANEL + lane] = weights[((int64_t)o * in + c) * 9 + k];
            }
}
