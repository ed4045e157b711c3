"""Compile C programs, many in one, and run them."""

import re
import shutil
import subprocess

import numpy as np

CC = shutil.which("gcc") or shutil.which("cc")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wshadow", "-Wdouble-promotion"]
# Without optimization, since a compiler takes several times as long for it as the test runs.
SANITIZED = ["-O0", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
_PUT = """
#include <stdio.h>
static void put(FILE *to, float value) { fwrite(&value, sizeof value, 1, to); }
"""


def outputs_of_c(programs, folder, options=SANITIZED):
    """Return the outputs of C programs: a list of arrays for each, a returned label first.

    programs : list of (program, X, sizes)
        The prefixes of the programs are p0, p1, ...; `sizes` are those of the outputs, without a
        returned label.
    """
    text = ["".join(f'#include "p{i}.c"\n' for i in range(len(programs))), _PUT]
    for i, (program, X, sizes) in enumerate(programs):
        (folder / f"p{i}.c").write_text(program.source)
        np.ascontiguousarray(X, dtype=np.float32).tofile(folder / f"p{i}.in")
        text.append(_runner(f"p{i}", program.source, sizes))
    calls = "".join(f" run_p{i}();" for i in range(len(programs)))
    text.append(f"int main(void) {{{calls} return 0; }}")
    (folder / "main.c").write_text("\n".join(text))
    command = [CC, *STRICT, *options, "main.c", "-o", "main", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    subprocess.run(["./main"], cwd=folder, check=True)
    found = []
    for i, (_, X, sizes) in enumerate(programs):
        returns = f"int p{i}_predict" in programs[i][0].source
        sizes = [1, *sizes] if returns else sizes
        rows = np.fromfile(folder / f"p{i}.out", dtype=np.float32).reshape(len(X), sum(sizes))
        found.append(np.split(rows, np.cumsum(sizes)[:-1], axis=1))
    return found


def _runner(name, source, sizes):
    """Return a function that reads rows from a file, and writes the outputs to another."""
    declaration = rf"(int|void) {name}_predict\(const float \*x(.*?)\);"
    returned, arguments = re.search(declaration, source).groups()
    kinds = re.findall(r"(int|float) \*\w+", arguments)
    assert len(kinds) == len(sizes)
    declared = "".join(
        f"    {kind} out{i}[{size}];\n"
        for i, (kind, size) in enumerate(zip(kinds, sizes, strict=True))
    )
    call = f"{name}_predict({', '.join(['x', *(f'out{i}' for i in range(len(sizes)))])})"
    nothing = f"{name}_predict({', '.join(['x', *['NULL'] * len(sizes)])})"
    call = f"put(to, (float){call});" if returned == "int" else f"{call};"
    written = "".join(
        f"        for (size_t i = 0; i < {size}; ++i) put(to, (float)out{at}[i]);\n"
        for at, size in enumerate(sizes)
    )
    return f"""
static void run_{name}(void)
{{
    float x[{name.upper()}_N_FEATURES];
{declared}    FILE *from = fopen("{name}.in", "rb"), *to = fopen("{name}.out", "wb");
    while (fread(x, sizeof x, 1, from) == 1) {{
        (void){nothing};
        {call}
{written}    }}
    fclose(from);
    fclose(to);
}}
"""
