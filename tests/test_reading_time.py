"""The minutes that each lesson states under Time, measured at one rate for all."""

import re
from pathlib import Path

from test_notebooks import lessons, read

from tools.notebooks import tags

# Slower than plain prose, which grown-ups read at 238 words a minute (Brysbaert 2019,
# doi 10.1016/j.jml.2019.104047). Nobody was timed: what counts is that all lessons share them.
WORDS_A_MINUTE = 200
LINES_OF_CODE_A_MINUTE = 15
OUTPUTS_A_MINUTE = 4  # tables, pictures, printed text
MINUTES_AN_EXERCISE = 7.5


def minutes(cells) -> tuple[float, float]:
    """Return the minutes of reading, outside the exercises, and of the exercises."""
    words = lines = outputs = exercises = 0
    reading = True
    for cell in cells:
        if cell.source.startswith(("## Exercises", "## Next")):
            reading = cell.source.startswith("## Next")
        exercises += cell.source.startswith("### Exercise")
        if reading and cell.cell_type == "markdown":
            words += len(re.sub(r"\]\([^)]*\)", "]", cell.source).split())
        elif reading and "hide-cell" not in tags(cell):
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
            outputs += bool(cell.outputs)
    read_for = words / WORDS_A_MINUTE + lines / LINES_OF_CODE_A_MINUTE + outputs / OUTPUTS_A_MINUTE
    return read_for, exercises * MINUTES_AN_EXERCISE


@lessons
def test_stated_minutes_are_those_of_one_rate(path: Path) -> None:
    """To the nearest 5, with some room, so that not each small change of a lesson moves them."""
    cells = read(path).cells
    (text,) = [cell.source for cell in cells if cell.source.startswith("## Time")]
    stated = [int(number) for number in re.findall(r"(\d+) minutes", text)]
    measured = minutes(cells)
    assert len(stated) == 2
    assert all(number % 5 == 0 for number in stated)
    for name, says, is_ in zip(["reading", "exercises"], stated, measured, strict=True):
        right = 5 * round(is_ / 5)
        assert abs(says - is_) <= (4 if name == "reading" else 6), f"{name}: {right}, not {says}"


# Main cells, which teach, of more than ten lines: none in lessons 00, 05 and 07, and in the others
# never more than there were. Imports, exercises, checks and solutions are not counted.
LONG = {
    "00": 0,
    "01": 7,
    "02": 4,
    "03": 8,
    "04": 5,
    "05": 0,
    "06": 10,
    "07": 0,
    "08": 17,
    "09": 10,
    "10": 4,
    "11": 9,
    "12": 9,
    "13": 5,
    "14": 13,
    "15": 8,
    "16": 3,
}


@lessons
def test_main_cells_are_short(path: Path) -> None:
    long = []
    for cell in read(path).cells:
        if cell.source.startswith("## Exercises"):
            break
        lines = sum(bool(line.strip()) for line in cell.source.splitlines())
        imports = re.match(r"(import|from) .*\n", cell.source)
        if cell.cell_type == "code" and lines > 10 and not imports:
            long.append(f"{lines} lines: {cell.source.splitlines()[0]}")
    assert len(long) <= LONG.get(path.stem[:2], 3), long
