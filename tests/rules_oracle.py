"""Lists under rules once more, slowly: all items of one user, in plain Python.

Written from docs/recommendations.md; it knows nothing of candidates, blocks or batches, save where
diversity is defined on the first so many.
"""

import numpy as np


def brute_force(vector, table, rules, k, *, eligible=None, seen=(), segments=0, min_score=-np.inf):
    """Item ids and scores of one user's list."""
    boosts = np.zeros(len(table)) if rules.boosts is None else rules.boosts.numpy()
    exact = table.astype(np.float64) @ vector.astype(np.float64) + boosts.astype(np.float64)
    scores = exact.astype(np.float32)
    denied, groups = rules.denied.tolist(), rules.groups.tolist()
    allowed = [
        item
        for item in range(1, len(table))
        if (eligible is None or item in eligible) and item not in seen
        if not denied[item] & segments
    ]
    places = {p.position if p.position > 0 else k + 1 + p.position: p.item_id for p in rules.pins}
    pins = {at: item for at, item in places.items() if 1 <= at <= k and item in allowed}
    left = [i for i in allowed if scores[i] >= min_score and i not in pins.values()]
    left.sort(key=lambda item: (-scores[item], item))
    if rules.weight == 0:
        return _walk(left, left, pins, scores, groups, table, rules, k)[:2]
    chosen = rules.candidates
    while True:
        *lists, is_short = _walk(left, left[:chosen], pins, scores, groups, table, rules, k)
        if not is_short or chosen >= len(left):
            return lists
        chosen *= 2


def _cosine(x, y):
    return round(float(x @ y) * 2**20) / 2**20


def _walk(left, free, pins, scores, groups, table, rules, k):
    num_codes = len(rules.at_most) - 1
    codes = [[c for c in row if c < num_codes] for row in rules.codes.tolist()]
    at_most, first = rules.at_most.tolist(), rules.first.tolist()
    used = [0] * num_codes
    for at, item in pins.items():
        for code in codes[item]:
            used[code] += at <= first[code]

    def keeps(item, place):
        return all(used[c] < at_most[c] or first[c] < place for c in codes[item])

    due: dict[int, int] = {}
    free_places = [0]
    for place in range(1, k + 1):
        free_places.append(free_places[-1] + (place not in pins))
    for number, quota in enumerate(rules.quotas):
        last = min(quota.first, k)
        in_group = [i for i in left if groups[i] >> number & 1]
        have = sum(i in due for i in in_group)
        have += sum(groups[item] >> number & 1 for at, item in pins.items() if at <= last)
        for item in in_group:
            if have >= quota.at_least or len(due) >= free_places[last]:
                break
            if item not in due and keeps(item, 0):
                due[item] = last
                have += 1
                for code in codes[item]:
                    used[code] += 1
    relevance = dict.fromkeys(left, 0.0)
    if free:
        least, most = float(scores[free[-1]]), float(scores[free[0]])
        width = most - least or np.inf
        relevance = {i: (float(scores[i]) - least) / width for i in left}
    norms = np.linalg.norm(table.astype(np.float64), axis=1, keepdims=True)
    unit = (table / np.maximum(norms, 1e-300)).astype(np.float32).astype(np.float64)
    made, is_free, has_ended = [], set(free), False
    for place in range(1, k + 1):
        if place in pins:
            made.append(pins[place])
            continue
        if has_ended:
            continue
        may = [i for i in left if i in due or (i in is_free and keeps(i, place))]
        for last in sorted(set(due.values())):
            waiting = [i for i in due if due[i] <= last]
            if last >= place and len(waiting) == free_places[last] - free_places[place - 1]:
                may = [i for i in left if i in waiting]
                break
        if not may:
            has_ended = True
            continue
        best = may[0]
        if rules.weight > 0:

            def value(item):
                near = max((_cosine(unit[item], unit[other]) for other in made), default=0.0)
                return (1 - rules.weight) * relevance[item] - rules.weight * float(near)

            best = max(may, key=value)  # the first of equal ones
        if best in due:
            del due[best]
        else:
            for code in codes[best]:
                used[code] += 1
        left, is_free = [i for i in left if i != best], is_free - {best}
        made.append(best)
    return made, [float(scores[i]) for i in made], has_ended
