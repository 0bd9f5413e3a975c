"""moonshelf: multimodal product understanding for shops.

A shop folder (photos, titles, searches, events) goes in; product vectors, their evaluation and
the models that stand on them come out. The rooms, top to bottom: ``shop``, ``encoder``,
``training``, ``shelf``, ``evaluation``, ``report``; ``cli`` has one verb a stage.
"""

__version__ = "0.1.0"
