"""Small folders of plain pictures and a table of questions about them."""

from PIL import Image

from otmerge_hf import cli


COLORS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


def picture(i):
    """A plain picture like no other's; its first pixel counts."""
    image = Image.new("RGB", (8, 8), list(COLORS.values())[i % 3])
    image.putpixel((0, 0), (i % 256, i // 256, 7))
    return image


def write_pictures(folder, count, first=0):
    """Pictures `0.png` and so on, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        picture(i).save(folder / f"{i}.png")


def questions(count, first=0):
    """(image, question, answer) of those pictures, two a picture."""
    names = list(COLORS)
    rows = []
    for i in range(first, first + count):
        rows += [
            (f"{i}.png", "what color is it?", names[i % 3]),
            (f"{i}.png", "is it red?", "yes" if i % 3 == 0 else "no"),
        ]
    return rows


def write_csv(path, rows, header=("image", "question", "answer"), delimiter=",", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [delimiter.join(map(str, row)) for row in ([header] if header else []) + list(rows)]
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))


def write_questions(folder, count=12, name="questions.csv", first=0):
    """A folder with pictures and one table of questions."""
    write_pictures(folder, count, first)
    write_csv(folder / name, questions(count, first))
    return folder


def check(capsys, *words):
    """Exit code, output and errors of `otmerge check --data ...`."""
    capsys.readouterr()
    code = cli.main(["check", "--data", *map(str, words)])
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line]
    return code, shown.out, lines
