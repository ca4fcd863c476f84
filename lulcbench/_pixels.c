/* Counting pixels of label maps against predicted ones, one pass over each map. See pixels.py, which defines what is
 * counted and checks what comes in; the tables are its own.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030C0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { COUNTED, UNKNOWN_LABEL, UNKNOWN_CLASS };
static const uint32_t NO_NODE = UINT32_MAX; /* in the table of labels */
static const uint8_t NO_CLASS = UINT8_MAX;  /* in the table of classes */

/* Greater of two places' differences: the highest bit in which places differ says the coarsest level. */
static inline void keep_greatest(int16_t *difference, const int16_t *a, const int16_t *b, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        int16_t d = a[i] ^ b[i];
        difference[i] = d > difference[i] ? d : difference[i];
    }
}

/* Count one map. `place` and `difference` hold a map each, `node` too. */
static int count_map(const uint16_t *labels, const uint16_t *predicted, const uint32_t *node_and_place,
                     const uint8_t *class_of, const uint8_t *depth_of, int64_t *counts, Py_ssize_t nodes,
                     Py_ssize_t classes, Py_ssize_t height, Py_ssize_t width, int16_t *place, int16_t *difference,
                     uint8_t *node)
{
    const Py_ssize_t n = height * width;
    for (Py_ssize_t i = 0; i < n; i++) {
        uint32_t packed = node_and_place[labels[i]];
        if (packed == NO_NODE)
            return UNKNOWN_LABEL;
        node[i] = (uint8_t)packed;
        place[i] = (int16_t)(packed >> 16);
    }
    memset(difference, 0, n * sizeof *difference);
    for (Py_ssize_t y = 0; y < height; y++) {
        int16_t *row = place + y * width, *found = difference + y * width;
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
        counts[(depth_of[difference[i]] * nodes + node[i]) * classes + class]++;
    }
    return COUNTED;
}

PyDoc_STRVAR(count_doc, "count(labels, predicted, node_and_place, class_of, depth_of, counts, nodes, height, width)\n\n"
                        "Add to counts; 0, or 1 (2) at the first unknown label (class). See lulcbench.pixels.");

static PyObject *count(PyObject *module, PyObject *args)
{
    Py_buffer labels, predicted, node_and_place, class_of, depth_of, counts;
    Py_ssize_t nodes, height, width;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*nnn", &labels, &predicted, &node_and_place, &class_of, &depth_of, &counts,
                          &nodes, &height, &width))
        return NULL;
    const Py_ssize_t most = 65536;
    const int sane = 0 < nodes && nodes < most && 0 < height && height < most && 0 < width && width < most;
    const Py_ssize_t n = sane ? height * width : 1, classes = sane ? counts.len / (5 * nodes * 8) : 0;
    int status = COUNTED;
    char *memory = NULL;
    if (!sane || labels.len != predicted.len || labels.len % (2 * n) ||
        node_and_place.len != 4 * 65536 || class_of.len != 65536 || depth_of.len != 2048 || classes < 1 ||
        counts.len != 5 * nodes * classes * 8)
        PyErr_SetString(PyExc_ValueError, "sizes of maps, tables and counts do not fit");
    else if (!(memory = PyMem_Malloc(5 * n)))
        PyErr_NoMemory();
    else {
        Py_BEGIN_ALLOW_THREADS
        int16_t *place = (int16_t *)memory, *difference = place + n;
        for (Py_ssize_t start = 0; start < labels.len / 2 && status == COUNTED; start += n)
            status = count_map((uint16_t *)labels.buf + start, (uint16_t *)predicted.buf + start, node_and_place.buf,
                               class_of.buf, depth_of.buf, counts.buf, nodes, classes, height, width, place, difference,
                               (uint8_t *)(difference + n));
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(memory);
    PyBuffer_Release(&labels);
    PyBuffer_Release(&predicted);
    PyBuffer_Release(&node_and_place);
    PyBuffer_Release(&class_of);
    PyBuffer_Release(&depth_of);
    PyBuffer_Release(&counts);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(status);
}

static PyMethodDef methods[] = {{"count", count, METH_VARARGS, count_doc}, {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot slots[] = {{Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_pixels", "Counting pixels; see lulcbench.pixels.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__pixels(void) { return PyModuleDef_Init(&definition); }
