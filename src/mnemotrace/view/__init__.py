"""Pages, figures and tables made from artifacts alone: no model, and matplotlib only when a figure is drawn."""

from mnemotrace.view.figure import Figure, drawable, save
from mnemotrace.view.figures import figures_of
from mnemotrace.view.page import report
from mnemotrace.view.tables import summary, table

__all__ = ["Figure", "drawable", "figures_of", "report", "save", "summary", "table"]
