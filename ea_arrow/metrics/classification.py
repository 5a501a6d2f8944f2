"""Metrics of frame classifications, in the definitions of scikit-learn.

A prediction and a label belong together if they answer the same question: the same attribute of the
same classification (``feature_hash``) in the same data unit. Such a pair counts once:

- Its answer is the most confident prediction (of equal ones the lowest ``prediction_id``). The
  others are *superseded*: counted, but neither right nor wrong.
- The answer is right if it equals any label of the pair. The pair counts for the option of the
  label it equals, else for the first label (lowest ``label_id``). The others are *further* labels.
- A label without an answer is *missing* a prediction: wrong for the accuracy, a false negative.
- An answer without a label is *unlabelled*: a false positive. The accuracy leaves it out.

Where every pair has both, the numbers are those of scikit-learn with ``zero_division=0``.
``is_crowd`` and ``is_ignored`` are properties of objects: nothing here looks at them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.arranged import run_starts, spread, unit_codes
from ea_arrow.conform import conform
from ea_arrow.errors import EaArrowError, SchemaError
from ea_arrow.schema import CONFUSION, METRICS

if TYPE_CHECKING:
    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.schema import TableSpec

_KEY = ("feature_hash", "attribute_hash", "option_hash")
_OPTION_METRICS = ["precision", "recall", "F1"]
_MEANS = [f"{name}_{mean}" for mean in ("macro", "micro") for name in _OPTION_METRICS]
_ATTRIBUTE_METRICS = ["accuracy", *_MEANS]
_BLOCK = 1 << 20  # probabilities looked at together; the bound on memory


@dataclass(frozen=True)
class ClassificationEvaluation:
    """What was right and wrong, for options O of attributes A.

    Options stand in the order of ``CLASSES``, those of an attribute side by side. Attributes stand
    in the order of their first option.

    Attributes:
        top_k: The k of top-k accuracy.
        tp: Pairs answered rightly, by the option (O).
        fp: Answers that are wrong or unlabelled, by the option answered (O).
        fn: Pairs answered wrongly or not at all, by the option labelled (O).
    """

    top_k: tuple[int, ...]
    tp: Ints
    fp: Ints
    fn: Ints
    _options: _Options
    _pairs: _Pairs
    _ranks: tuple[Ints, Bools, Bools]

    def counts(self) -> pa.Table:
        """Return what was right, missing and surplus: one row per attribute (A).

        ``n_labelled`` pairs are correct, wrong or missing; ``n_answered`` ones are correct, wrong
        or unlabelled. Every prediction is answered or superseded, every label labelled or further.
        ``n_unusable_probabilities``: answers with probabilities, but not one number per option.
        """
        options, pairs = self._options, self._pairs
        attribute, truth, answer = pairs.attribute, pairs.truth, pairs.answer
        n_labelled, n_answered = (options.count(attribute[o >= 0]) for o in (truth, answer))
        n_predictions = options.count(options.attribute[pairs.prediction_option])
        n_labels = options.count(options.attribute[pairs.label_option])
        numbers = {
            "n_labelled": n_labelled,
            "n_answered": n_answered,
            "n_correct": options.count(attribute[truth == answer]),
            "n_missing": options.count(attribute[answer < 0]),
            "n_unlabelled": options.count(attribute[truth < 0]),
            "n_superseded": n_predictions - n_answered,
            "n_further_labels": n_labels - n_labelled,
            "n_unusable_probabilities": options.count(attribute[self._ranks[2]]),
        }
        rows = options.attributes
        for name, values in numbers.items():
            rows = rows.append_column(name, pa.array(values))
        return rows

    def to_metrics(self, iteration: str, provenance: str, subset: str = "all") -> pa.Table:
        """Return numbers over all attributes, then of each attribute and option, as ``METRICS``.

        Over all attributes, every option is a class and every pair counts alike. ``accuracy`` is
        over labelled pairs. A ``_macro`` mean is over options that occur in pairs, with 0 where one
        is not defined; a number that is defined for none of them is null. ``top<k>_accuracy`` is
        there for attributes with more than k options where an answer has usable probabilities; of
        equal probabilities the first option ranks higher, and an answer without usable ones counts
        by its option. ``n_labels`` are labelled pairs and ``n_predictions`` answers. Attributes
        without either have no rows.

        Args:
            iteration: Name of the iteration.
            provenance: Fingerprint of the inputs.
            subset: Name of the subset of data units that the input tables hold.
        """
        counts, options = np.stack([self.tp, self.fp, self.fn]), self._options
        if not counts.any():
            return METRICS.arrow.empty_table()
        overall = _summaries(counts, np.zeros(1, np.int64))
        total, nothing = counts.sum(axis=1, keepdims=True), pa.table({"class": [None]})
        active = np.logical_or.reduceat(counts.any(axis=0), options.first)[options.attribute]
        counted = counts[:, active]
        keys = options.table.filter(pa.array(active)).rename_columns([*_KEY, "class"])
        blocks = [
            _metric_rows(nothing, _ATTRIBUTE_METRICS, overall, total),
            self._attribute_rows(counts),
            _metric_rows(keys, _OPTION_METRICS, _scores(*counted), counted),
        ]
        table = pa.concat_tables(blocks, promote_options="default")
        same = {"iteration": iteration, "protocol": "classification", "subset": subset}
        return _filled(table, METRICS, {**same, "provenance": provenance})

    def _attribute_rows(self, counts: Ints) -> pa.Table:
        """Return the rows of the attributes that have labels or answers."""
        options, attribute = self._options, self._pairs.attribute
        names, value = list(_ATTRIBUTE_METRICS), _summaries(counts, options.first)
        total = np.add.reduceat(counts, options.first, axis=1)
        shown = np.broadcast_to(total.any(axis=0), value.shape)
        rank, usable, _ = self._ranks
        for k in self.top_k:
            right = options.count(attribute[rank < k])
            names.append(f"top{k}_accuracy")
            value = np.vstack([value, _ratio(right, total[0] + total[2])])
            shown = np.vstack([shown, (options.count(attribute[usable]) > 0) & (options.size > k)])
        return _metric_rows(options.attributes, names, value, total).filter(shown.T.ravel())

    def to_confusion(self, iteration: str, subset: str = "all") -> pa.Table:
        """Return how often each answer met each label, as ``CONFUSION``.

        By attribute, label and prediction in the order of the options; null comes last and stands
        for a missing prediction or label.

        Args:
            iteration: Name of the iteration.
            subset: Name of the subset of data units that the input tables hold.
        """
        options, pairs = self._options, self._pairs
        n = len(options.attribute)
        truth, answer = (np.where(option < 0, n, option) for option in (pairs.truth, pairs.answer))
        packed = (pairs.attribute * (n + 1) + truth) * (n + 1) + answer
        cell, count = np.unique(packed, return_counts=True)
        rest, answer = np.divmod(cell, n + 1)
        attribute, truth = np.divmod(rest, n + 1)
        hashes = options.attributes["attribute_hash"].take(pa.array(attribute))
        columns = {"attribute_hash": hashes, "count": pa.array(count)}
        for side, option in (("label", truth), ("predicted", answer)):
            position = pa.array(option, mask=option == n)
            columns[f"{side}_hash"] = options.table["option_hash"].take(position)
            columns[f"{side}_class"] = options.table["name"].take(position)
        return _filled(pa.table(columns), CONFUSION, {"iteration": iteration, "subset": subset})


def evaluate(
    predictions: Any, labels: Any, data_units: Any, classes: Any, *, top_k: tuple[int, ...] = (5,)
) -> ClassificationEvaluation:
    """Compare predicted classifications with labelled ones; objects are passed over.

    Args:
        predictions: Table in the shape of ``PREDICTIONS``. The i-th of a row's ``probabilities`` is
            that of the i-th option of its attribute in ``classes``.
        labels: Table in the shape of ``LABELS``.
        data_units: Table in the shape of ``DATA_UNITS``, in order of ``unit_id``.
        classes: Table in the shape of ``CLASSES``, in the order of the ontology.
        top_k: The k of top-k accuracies, 1 or more each.

    Raises:
        SchemaError: A prediction or label names a data unit or option that the tables lack.
        EaArrowError: A k is below 1.
    """
    if any(k < 1 for k in top_k):
        raise EaArrowError(f"Each of top_k must be 1 or more, got {top_k}.")
    options = _Options.of(classes)
    predictions = _select(predictions, "prediction_id", "confidence", "probabilities")
    pairs = _pair(predictions, _select(labels, "label_id"), data_units, options)
    truth, answer, n = pairs.truth, pairs.answer, len(options.attribute)
    wrong = truth != answer
    return ClassificationEvaluation(
        top_k=tuple(sorted(set(top_k))),
        tp=np.bincount(truth[~wrong], minlength=n),
        fp=np.bincount(answer[wrong & (answer >= 0)], minlength=n),
        fn=np.bincount(truth[wrong & (truth >= 0)], minlength=n),
        _options=options,
        _pairs=pairs,
        _ranks=_rank(predictions["probabilities"].combine_chunks(), pairs, options),
    )


@dataclass(frozen=True)
class _Options:
    """Every option (O) of every attribute (A), those of an attribute side by side."""

    table: Any
    attribute: Ints  # of each option
    first: Ints  # option of each attribute
    size: Ints  # number of options of each attribute

    @classmethod
    def of(cls, classes: Any) -> _Options:
        table = pa.table({n: classes.column(n).cast(pa.string()) for n in (*_KEY, "name")})
        table = table.filter(pc.equal(classes.column("kind"), "classification"))
        packed = _packed(table, table, _KEY[:2])
        _, seen, code = np.unique(packed, return_index=True, return_inverse=True)
        attribute = np.argsort(np.argsort(seen))[code]
        # A nested attribute stands between two options of the one it hangs from.
        order = np.argsort(attribute, kind="stable")
        attribute = attribute[order]
        first = run_starts(attribute)
        return cls(table.take(pa.array(order)), attribute, first, np.diff(first, append=len(order)))

    @property
    def attributes(self) -> Any:
        """The hashes of the attributes (A)."""
        return self.table.select(_KEY[:2]).take(pa.array(self.first))

    def count(self, attribute: Ints) -> Ints:
        """Return how often each attribute occurs (A)."""
        return np.bincount(attribute, minlength=len(self.size))

    def find(self, rows: Any, what: str) -> Ints:
        """Return the option that each row names."""
        known, wanted = _packed(self.table, self.table, _KEY), _packed(rows, self.table, _KEY)
        order = np.argsort(known, kind="stable")
        place = np.searchsorted(known[order], wanted)
        found = np.append(known[order], -1)[place] == np.where(wanted < 0, -2, wanted)
        if not found.all():
            lost = rows.slice(int(found.argmin()), 1).to_pylist()[0]
            message = (
                f"{(~found).sum()} {what}(s) name an option that no classification has: "
                f"'{lost['option_hash']}' of the attribute '{lost['attribute_hash']}' of the "
                f"classification '{lost['feature_hash']}' first."
            )
            raise SchemaError(message)
        return order[place]


@dataclass(frozen=True)
class _Pairs:
    """Predicted (N) and labelled (L) classifications, and the pairs (C) they make; −1: none."""

    prediction_option: Ints
    label_option: Ints
    label_pair: Ints
    attribute: Ints
    answer_row: Ints
    label_row: Ints

    @property
    def answer(self) -> Ints:
        """Option answered (C)."""
        return np.append(self.prediction_option, -1)[self.answer_row]

    @property
    def truth(self) -> Ints:
        """Option labelled (C); equal to the answer where that is right, as one of them is there."""
        return np.append(self.label_option, -1)[self.label_row]


def _pair(predictions: Any, labels: Any, data_units: Any, options: _Options) -> _Pairs:
    n = max(len(options.size), 1)
    answer, truth = options.find(predictions, "prediction"), options.find(labels, "label")
    key = unit_codes(predictions, data_units, "prediction") * n + options.attribute[answer]
    label_key = unit_codes(labels, data_units, "label") * n + options.attribute[truth]
    pairs = np.sort(np.concatenate([key, label_key]))
    pairs = pairs[run_starts(pairs)]
    pair, label_pair = np.searchsorted(pairs, key), np.searchsorted(pairs, label_key)
    confidence = predictions["confidence"].to_numpy()
    answer_row = _first(len(pairs), pair, -confidence, predictions["prediction_id"].to_numpy())
    differs = truth != np.append(answer, -1)[answer_row][label_pair]
    return _Pairs(
        prediction_option=answer,
        label_option=truth,
        label_pair=label_pair,
        attribute=pairs % n,
        answer_row=answer_row,
        label_row=_first(len(pairs), label_pair, differs, labels["label_id"].to_numpy()),
    )


def _select(table: Any, *names: str) -> Any:
    table = table.select(["data_hash", "frame", "format", *_KEY, *names])
    return table.filter(pc.equal(table["format"], "classification"))


def _first(n_groups: int, group: Ints, *by: Any) -> Ints:
    """Return the first row of each group in the order ``by``, −1 if it has none."""
    rows = np.lexsort((*reversed(by), group))
    rows = rows[run_starts(group[rows])]
    first = np.full(n_groups, -1)
    first[group[rows]] = rows
    return first


def _packed(table: Any, known: Any, names: tuple[str, ...]) -> Ints:
    """Return one integer for the values of several columns, −1 where one is not ``known``."""
    packed = np.zeros(len(table), np.int64)
    lost = np.zeros(len(table), bool)
    for name in names:
        values = known[name].unique()
        found = pc.index_in(table[name].cast(pa.string()), value_set=values).fill_null(-1)
        code = found.to_numpy().astype(np.int64)
        packed = packed * len(values) + code
        lost |= code < 0
    return np.where(lost, -1, packed)


def _rank(vectors: Any, pairs: _Pairs, options: _Options) -> tuple[Ints, Bools, Bools]:
    """Return the place of each pair's label among the probabilities (C), from 0 for the highest.

    Also whether these are usable, and whether they are given but not usable. Where they are not
    usable, the place is 0 if the answer is right.
    """
    values = vectors.values.to_numpy(zero_copy_only=False)  # null becomes NaN
    offset = vectors.offsets.to_numpy().astype(np.int64)
    given = vectors.is_valid().to_numpy(zero_copy_only=False)
    fits = np.diff(offset) == options.size[options.attribute[pairs.prediction_option]]
    fits &= np.diff(np.searchsorted(np.flatnonzero(np.isnan(values)), offset)) == 0
    usable, unusable = (
        np.append(flags, False)[pairs.answer_row] for flags in (given & fits, given & ~fits)
    )
    rank = np.where((pairs.truth == pairs.answer) & ~usable, 0, len(options.attribute))
    label = np.flatnonzero(usable[pairs.label_pair])
    pair, option = pairs.label_pair[label], pairs.label_option[label]
    attribute = options.attribute[option]
    start, place = offset[pairs.answer_row[pair]], option - options.first[attribute]
    # Of several labels the likeliest counts.
    np.minimum.at(rank, pair, _places(values, start, options.size[attribute], place))
    return rank, usable, unusable


def _places(values: Any, start: Ints, size: Ints, place: Ints) -> Ints:
    """Return the places that values have, in falling order, among ``size`` of them from ``start``.

    Of equal values the first comes first.
    """
    places = np.zeros(len(start), np.int64)
    ends = np.cumsum(size)
    cuts = np.searchsorted(ends, np.arange(0, size.sum(), _BLOCK), side="right")
    for begin, end in pairwise(np.unique(np.append(cuts, len(ends))).tolist()):
        n = size[begin:end]
        element, own = spread(start[begin:end], n), np.repeat((start + place)[begin:end], n)
        before = values[element] > values[own]
        before |= (values[element] == values[own]) & (element < own)
        places[begin:end] = np.add.reduceat(before, np.cumsum(n) - n, dtype=np.int64)
    return places


def _summaries(counts: Ints, first: Ints) -> Floats:
    """Return ``_ATTRIBUTE_METRICS`` of the runs of options that start at ``first`` (7, runs)."""
    each = np.nan_to_num(_scores(*counts))
    occurs = np.add.reduceat(counts.any(axis=0), first, dtype=np.int64)
    micro = _scores(*np.add.reduceat(counts, first, axis=1))
    macro = _ratio(np.add.reduceat(each, first, axis=1), occurs)
    macro[np.isnan(micro)] = np.nan  # then it is defined for no option
    # Every labelled pair is a true positive or a false negative: recall is the accuracy.
    return np.vstack([micro[1], macro, micro])


def _scores(tp: Ints, fp: Ints, fn: Ints) -> Floats:
    """Return precision, recall and F1 (3, …), NaN where not defined."""
    return np.stack([_ratio(tp, tp + fp), _ratio(tp, tp + fn), _ratio(2 * tp, 2 * tp + fp + fn)])


def _ratio(part: Ints | Floats, whole: Ints) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio


def _metric_rows(keys: Any, names: list[str], value: Floats, counts: Ints) -> pa.Table:
    """Return one row per key and metric; ``value`` is (names, keys), ``counts`` (3, keys)."""
    n_names, n_keys = value.shape
    flat = value.T.ravel()
    rows = keys.take(pa.array(np.repeat(np.arange(n_keys), n_names)))
    rows = rows.append_column("metric", pa.array(names * n_keys))
    rows = rows.append_column("value", pa.array(flat, mask=np.isnan(flat)))
    for name, counted in (("n_labels", counts[[0, 2]]), ("n_predictions", counts[:2])):
        rows = rows.append_column(name, pa.array(np.repeat(counted.sum(axis=0), n_names)))
    return rows


def _filled(table: Any, spec: TableSpec, same: dict[str, str]) -> Any:
    """Return a table of ``spec`` with the same value in some columns, null in the others."""
    for field in spec.arrow:
        if field.name not in table.schema.names:
            value = pa.scalar(same.get(field.name), field.type)
            table = table.append_column(field.name, pa.repeat(value, len(table)))
    return conform(table, spec)
