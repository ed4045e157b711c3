"""What tests of pictures share: whether what is written in a figure can be read."""

from itertools import combinations


def texts_of(figure):
    """Return all visible texts of a figure that is drawn, with where they are, in pixels."""
    figure.draw_without_rendering()
    texts = []
    for ax in figure.axes:
        written = [*ax.texts, ax.title]
        if ax.axison:
            written += [ax.xaxis.label, ax.yaxis.label]
            for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
                low, high = sorted((low, high))
                ticks = axis.get_major_ticks()
                written += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
        texts += [text for text in written if text.get_visible() and text.get_text()]
    return texts


def labels_overlap(figure):
    """Return pairs of texts that lie over each other, or what is cut off at the border."""
    texts = texts_of(figure)
    extents = {id(text): text.get_window_extent() for text in texts}
    bad = []
    for one, other in combinations(texts, 2):
        if one.get_rotation() % 90 and other.get_rotation() % 90:
            continue  # the boxes around slanted texts overlap, the texts do not
        a, b = extents[id(one)], extents[id(other)]
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        if width > 1 and height > 1:
            bad.append((one.get_text(), other.get_text()))
    frame = figure.bbox
    for text in texts:
        extent = extents[id(text)]
        if extent.x0 < -1 or extent.y0 < -1 or extent.x1 > frame.x1 + 1 or extent.y1 > frame.y1 + 1:
            bad.append((text.get_text(), "border"))
    return bad
