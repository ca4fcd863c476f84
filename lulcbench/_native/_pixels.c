/* The inner loops over pixels, in one pass and without Python's lock: counting label maps against predicted ones (see
 * evaluation/_pixels.py, which defines what is counted; the tables are those of legend/tables.py), normalising imagery
 * (datasets/normalize.py), and deciding classes from probabilities (legend/decisions.py).
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030C0000
#include <Python.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { COUNTED, UNKNOWN_LABEL, UNKNOWN_CLASS };
static const uint32_t NO_NODE = UINT32_MAX; /* in the table of labels */
static const uint8_t NO_CLASS = UINT8_MAX;  /* in the table of classes */

enum { DEPTHS = 5, PAIRS = 25 }; /* depths of label edges; (comparable, agreeing) levels of a pixel, 0 to 4 each */

/* Greater of two paths' differences: the highest bit in which two paths differ tells the coarsest level. */
static inline void keep_greatest(int16_t *difference, const int16_t *a, const int16_t *b, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        int16_t d = a[i] ^ b[i];
        difference[i] = d > difference[i] ? d : difference[i];
    }
}

/* Count one map. `path` and `difference` hold a map each, `node` too. */
static int count_map(const uint16_t *labels, const uint16_t *predicted, const uint32_t *node_and_path,
                     const uint8_t *class_of, const uint8_t *depth_of, const uint8_t *pair_of, int64_t *counts,
                     int64_t *tally, Py_ssize_t nodes, Py_ssize_t classes, Py_ssize_t height, Py_ssize_t width,
                     int16_t *path, int16_t *difference, uint8_t *node)
{
    const Py_ssize_t n = height * width;
    uint32_t pairs[PAIRS] = {0};
    for (Py_ssize_t i = 0; i < n; i++) {
        uint32_t packed = node_and_path[labels[i]];
        if (packed == NO_NODE)
            return UNKNOWN_LABEL;
        node[i] = (uint8_t)packed;
        path[i] = (int16_t)(packed >> 16);
    }
    memset(difference, 0, n * sizeof *difference);
    for (Py_ssize_t y = 0; y < height; y++) {
        int16_t *row = path + y * width, *found = difference + y * width;
        keep_greatest(found, row, row + 1, width - 1);
        keep_greatest(found + 1, row, row + 1, width - 1);
        if (y + 1 < height)
            keep_greatest(found, row, row + width, width);
        if (y > 0)
            keep_greatest(found, row, row - width, width);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        uint8_t class = class_of[predicted[i]];
        if (class == NO_CLASS)
            return UNKNOWN_CLASS;
        Py_ssize_t pair = node[i] * classes + class;
        counts[depth_of[difference[i]] * nodes * classes + pair]++;
        pairs[pair_of[pair]]++;
    }
    for (int k = 0; k < PAIRS; k++)
        tally[k] = pairs[k];
    return COUNTED;
}

PyDoc_STRVAR(count_maps_doc,
             "count_maps(labels, predicted, node_and_path, class_of, depth_of, pair_of, counts, tallies, nodes, height, "
             "width)\n\nAdd to counts and set the tally of each map; 0, or 1 (2) at the first unknown label (class). See "
             "lulcbench.evaluation._pixels.");

static PyObject *count_maps(PyObject *module, PyObject *args)
{
    Py_buffer labels, predicted, node_and_path, class_of, depth_of, pair_of, counts, tallies;
    Py_ssize_t nodes, height, width;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*w*w*nnn", &labels, &predicted, &node_and_path, &class_of, &depth_of,
                          &pair_of, &counts, &tallies, &nodes, &height, &width))
        return NULL;
    const Py_ssize_t most = 65536;
    const int sane = 0 < nodes && nodes < most && 0 < height && height < most && 0 < width && width < most;
    const Py_ssize_t n = sane ? height * width : 1, classes = sane ? counts.len / (DEPTHS * nodes * 8) : 0;
    const Py_ssize_t maps = labels.len / (2 * n);
    int status = COUNTED;
    char *memory = NULL;
    int fits = sane && labels.len == predicted.len && labels.len == maps * 2 * n && node_and_path.len == 4 * 65536 &&
               class_of.len == 65536 && depth_of.len == 2048 && classes >= 1 && classes < NO_CLASS &&
               counts.len == DEPTHS * nodes * classes * 8 && pair_of.len == nodes * classes &&
               tallies.len == maps * PAIRS * 8;
    for (Py_ssize_t k = 0; fits && k < pair_of.len; k++)
        fits = ((uint8_t *)pair_of.buf)[k] < PAIRS;
    if (!fits)
        PyErr_SetString(PyExc_ValueError, "sizes of maps, tables and counts do not fit");
    else if (!(memory = PyMem_Malloc(5 * n)))
        PyErr_NoMemory();
    else {
        Py_BEGIN_ALLOW_THREADS
        int16_t *path = (int16_t *)memory, *difference = path + n;
        for (Py_ssize_t map = 0; map < maps && status == COUNTED; map++)
            status = count_map((uint16_t *)labels.buf + map * n, (uint16_t *)predicted.buf + map * n, node_and_path.buf,
                               class_of.buf, depth_of.buf, pair_of.buf, counts.buf, (int64_t *)tallies.buf + map * PAIRS,
                               nodes, classes, height, width, path, difference, (uint8_t *)(difference + n));
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(memory);
    PyBuffer_Release(&labels);
    PyBuffer_Release(&predicted);
    PyBuffer_Release(&node_and_path);
    PyBuffer_Release(&class_of);
    PyBuffer_Release(&depth_of);
    PyBuffer_Release(&pair_of);
    PyBuffer_Release(&counts);
    PyBuffer_Release(&tallies);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(status);
}

/* One band of one image. With `stream`, results go to memory past the caches, which spares reading what they replace. */
static void normalize_plane(const uint16_t *stored, float *out, Py_ssize_t n, float gain, float bias, int stream)
{
    Py_ssize_t i = 0;
#ifdef __SSE2__
    if (stream) {
        const __m128i zero = _mm_setzero_si128();
        const __m128 gains = _mm_set1_ps(gain), biases = _mm_set1_ps(bias);
        for (; i < n && (uintptr_t)(out + i) % 16; i++)
            out[i] = stored[i] ? (float)stored[i] * gain + bias : 0;
        for (; i + 8 <= n; i += 8) {
            __m128i values = _mm_loadu_si128((const __m128i *)(stored + i));
            for (int half = 0; half < 2; half++) {
                __m128i wide = half ? _mm_unpackhi_epi16(values, zero) : _mm_unpacklo_epi16(values, zero);
                __m128 result = _mm_add_ps(_mm_mul_ps(_mm_cvtepi32_ps(wide), gains), biases);
                __m128 nodata = _mm_castsi128_ps(_mm_cmpeq_epi32(wide, zero));
                _mm_stream_ps(out + i + 4 * half, _mm_andnot_ps(nodata, result));
            }
        }
    }
#else
    (void)stream;
#endif
    for (; i < n; i++)
        out[i] = stored[i] ? (float)stored[i] * gain + bias : 0;
}

PyDoc_STRVAR(normalize_doc, "normalize(stored, out, gain, bias, plane, stream)\n\n"
                            "Stored values to float32, plane by plane of so many pixels, bands in turn; nodata to 0.");

static PyObject *normalize(PyObject *module, PyObject *args)
{
    Py_buffer stored, out, gain, bias;
    Py_ssize_t plane;
    int stream;
    if (!PyArg_ParseTuple(args, "y*w*y*y*np", &stored, &out, &gain, &bias, &plane, &stream))
        return NULL;
    const Py_ssize_t bands = gain.len / 4;
    const int fits = plane > 0 && bands > 0 && bias.len == gain.len && out.len == 2 * stored.len &&
                     stored.len / 2 % plane == 0 && stored.len / 2 / plane % bands == 0;
    if (!fits)
        PyErr_SetString(PyExc_ValueError, "sizes of images, bands and planes do not fit");
    else {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t k = 0; k < stored.len / 2 / plane; k++)
            normalize_plane((uint16_t *)stored.buf + k * plane, (float *)out.buf + k * plane, plane,
                            ((float *)gain.buf)[k % bands], ((float *)bias.buf)[k % bands], stream);
#ifdef __SSE2__
        _mm_sfence();
#endif
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&stored);
    PyBuffer_Release(&out);
    PyBuffer_Release(&gain);
    PyBuffer_Release(&bias);
    if (!fits)
        return NULL;
    Py_RETURN_NONE;
}

enum { STRETCH = 128, MAX_LEVELS = 8, MAX_CLASSES = 256 }; /* pixels at a time, whose probabilities stay in L1 */

/* The tree of classes: at each level, the first class of the deepest level below each class, and after the last one the
 * number of classes; and the first child of each class on the level below, with the same end. */
typedef struct {
    int levels;
    uint16_t first[MAX_LEVELS][MAX_CLASSES + 1], child[MAX_LEVELS][MAX_CLASSES + 1];
    int count[MAX_LEVELS];
} Tree;

/* From the class above each class of the deepest level, by level; 0 if it is not a tree whose siblings follow each other. */
static int make_tree(Tree *tree, const uint8_t *over, int levels, int classes)
{
    tree->levels = levels;
    for (int level = 0; level < levels; level++) {
        const uint8_t *own = over + (Py_ssize_t)level * classes;
        int count = 0, children = 0;
        for (int i = 0; i < classes; i++) {
            const int fresh = i == 0 || own[i] != own[i - 1];
            if (own[i] != count - 1 + fresh || (level && i && !fresh && own[i - classes] != own[i - 1 - classes]))
                return 0;
            if (fresh) {
                tree->first[level][count] = i;
                if (level && (i == 0 || own[i - classes] != own[i - 1 - classes]))
                    tree->child[level - 1][children++] = count;
                count++;
            }
        }
        tree->first[level][count] = classes;
        tree->count[level] = count;
        if (level)
            tree->child[level - 1][children] = count;
    }
    return tree->count[levels - 1] == classes;
}

/* Of the classes `from` to `to` of a level, the most probable one of a pixel, the first of equal ones; as NumPy, which
 * also says what becomes of NaN. The probability of a class is the sum of those below it, in their order. */
static int most_probable(const char *p, Py_ssize_t stride, const uint16_t *first, int from, int to)
{
    float highest = 0;
    int best = from;
    for (int k = from; k < to; k++) {
        float sum = 0;
        for (int i = first[k]; i < first[k + 1]; i++)
            sum += *(const float *)(p + i * stride);
        if (k == from)
            highest = sum;
        else if (sum > highest) {
            highest = sum;
            best = k;
        } else if (sum != sum)
            highest = sum;
    }
    return best;
}

static void decide_stretch(const Tree *tree, const char *p, Py_ssize_t stride, uint8_t *out, int n)
{
    float highest[STRETCH] = {0}, sums[STRETCH];
    int32_t best[STRETCH] = {0};
    for (int k = 0; k < tree->count[0]; k++) {
        memset(sums, 0, n * sizeof *sums);
        for (int i = tree->first[0][k]; i < tree->first[0][k + 1]; i++) {
            const float *row = (const float *)(p + i * stride);
            for (int j = 0; j < n; j++)
                sums[j] += row[j];
        }
        if (k == 0)
            memcpy(highest, sums, n * sizeof *sums);
        else
            for (int j = 0; j < n; j++) {
                best[j] = sums[j] > highest[j] ? k : best[j];
                highest[j] = (sums[j] > highest[j]) | (sums[j] != sums[j]) ? sums[j] : highest[j];
            }
    }
    for (int j = 0; j < n; j++) {
        int chosen = best[j];
        for (int level = 1; level < tree->levels; level++)
            chosen = most_probable(p + 4 * j, stride, tree->first[level], tree->child[level - 1][chosen],
                                   tree->child[level - 1][chosen + 1]);
        out[j] = chosen;
    }
}

PyDoc_STRVAR(decide_doc, "decide(p, over, out)\n\nClasses of the deepest level from probabilities (class, pixel), by the "
                         "classes above them (level, class). See lulcbench.legend.decisions.");

static PyObject *decide(PyObject *module, PyObject *args)
{
    PyObject *probabilities;
    Py_buffer p, over, out;
    Tree tree;
    if (!PyArg_ParseTuple(args, "Oy*w*", &probabilities, &over, &out))
        return NULL;
    int fits = 0, held = PyObject_GetBuffer(probabilities, &p, PyBUF_STRIDED_RO | PyBUF_FORMAT) == 0;
    if (held) {
        fits = p.ndim == 2 && !strcmp(p.format, "f") && p.strides[1] == 4 && p.strides[0] % 4 == 0 &&
               (uintptr_t)p.buf % 4 == 0 && p.shape[1] == out.len && 0 < p.shape[0] && p.shape[0] <= MAX_CLASSES &&
               0 < over.len && over.len % p.shape[0] == 0 && over.len / p.shape[0] <= MAX_LEVELS &&
               make_tree(&tree, over.buf, (int)(over.len / p.shape[0]), (int)p.shape[0]);
        if (!fits)
            PyErr_SetString(PyExc_ValueError, "probabilities, tree and result do not fit");
    }
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t start = 0; start < out.len; start += STRETCH)
            decide_stretch(&tree, (char *)p.buf + 4 * start, p.strides[0], (uint8_t *)out.buf + start,
                           out.len - start < STRETCH ? (int)(out.len - start) : STRETCH);
        Py_END_ALLOW_THREADS
    }
    if (held)
        PyBuffer_Release(&p);
    PyBuffer_Release(&over);
    PyBuffer_Release(&out);
    if (!fits)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"count_maps", count_maps, METH_VARARGS, count_maps_doc},
    {"normalize", normalize, METH_VARARGS, normalize_doc},
    {"decide", decide, METH_VARARGS, decide_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_pixels", "Inner loops over pixels.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__pixels(void) { return PyModuleDef_Init(&definition); }
