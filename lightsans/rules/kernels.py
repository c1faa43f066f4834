"""The compiled walk on a CPU: one user after the other; see `lightsans.rules.walk`.

Needs Numba. Shapes: as in `lightsans.rules.walk`.
"""

import numpy as np

from lightsans.arrays import Array
from lightsans.compiling import compiled


@compiled()
def _keeps_caps(
    codes_G: Array, used_C: Array, at_most_C: Array, first_C: Array, place: int
) -> bool:
    for g in range(codes_G.shape[0]):
        code = codes_G[g]
        if used_C[code] >= at_most_C[code] and first_C[code] >= place:
            return False
    return True


@compiled(fastmath={"reassoc", "contract"})
def _dot(x_D: Array, y_D: Array) -> float:
    total = 0.0
    for d in range(x_D.shape[0]):
        total += x_D[d] * y_D[d]
    return total


@compiled()
def _vectors(ids_T: Array, unit_VD: Array) -> Array:
    """Vectors of the candidates side by side, where the walk reads them again and again."""
    found = np.empty((ids_T.shape[0], unit_VD.shape[1]), np.float64)
    for t in range(ids_T.shape[0]):
        for d in range(unit_VD.shape[1]):
            found[t, d] = unit_VD[ids_T[t], d]
    return found


@compiled()
def _approach(
    item_D: Array, is_first: bool, is_left_T: Array, unit_TD: Array, nearest_T: Array
) -> None:
    """Let an item that was put into the list count in the cosines of those that are left."""
    taken_D = item_D.astype(np.float64)
    for t in range(is_left_T.shape[0]):
        if is_left_T[t]:
            cosine = np.rint(_dot(unit_TD[t], taken_D) * 2.0**20) / 2.0**20
            nearest_T[t] = cosine if is_first else max(nearest_T[t], cosine)


@compiled()
def _relevance(scores_T: Array, state_T: Array) -> Array:
    """Scores stretched so that those of the free candidates go from 0 to 1."""
    T = scores_T.shape[0]
    least, most = np.inf, -np.inf
    for t in range(T):
        if state_T[t] == 2:
            least, most = min(least, np.float64(scores_T[t])), max(most, np.float64(scores_T[t]))
    width = most - least if most > least else np.inf
    if least == np.inf:
        least = 0.0
    found = np.empty(T)
    for t in range(T):
        found[t] = (np.float64(scores_T[t]) - least) / width
    return found


@compiled()
def walk(
    ids_BT: Array,
    scores_BT: Array,
    state_BT: Array,
    quotas_BT: Array,
    has_more_B: Array,
    has_more_BQ: Array,
    pinned_BP: Array,
    pin_scores_BP: Array,
    groups_V: Array,
    quotas_Q2: Array,
    codes_VG: Array,
    at_most_C: Array,
    first_C: Array,
    pins_P2: Array,
    weight: float,
    unit_VD: Array,
    lists_BK: Array,
    list_scores_BK: Array,
    is_short_B: Array,
    lacks_group_B: Array,
) -> None:
    """Write each user's list, and whether further candidates may change it."""
    B, T = ids_BT.shape
    K, Q, P, G = lists_BK.shape[1], quotas_Q2.shape[0], pins_P2.shape[0], codes_VG.shape[1]
    used_C = np.zeros(at_most_C.shape[0], np.int32)
    last_Q = np.empty(Q, np.int64)
    for q in range(Q):
        last_Q[q] = min(quotas_Q2[q, 1], K)
    for b in range(B):
        ids_T, scores_T, state_T = ids_BT[b], scores_BT[b], state_BT[b]
        is_left_T = state_T != 0
        due_T = np.zeros(T, np.int64)

        # Pins take their places and count in the caps about them.
        pin_at = np.full(K + 1, -1, np.int64)
        free_at = np.zeros(K + 1, np.int64)
        for p in range(P):
            place = pins_P2[p, 1]
            if pinned_BP[b, p] and 1 <= place <= K:
                pin_at[place] = p
                for g in range(G):
                    code = codes_VG[pins_P2[p, 0], g]
                    if place <= first_C[code]:
                        used_C[code] += 1
        for place in range(1, K + 1):
            free_at[place] = free_at[place - 1] + (pin_at[place] < 0)

        # Quotas reserve; earlier ones have earlier last places.
        reserved = 0
        for q in range(Q):
            have, last = 0, last_Q[q]
            for place in range(1, last + 1):
                if pin_at[place] >= 0 and groups_V[pins_P2[pin_at[place], 0]] >> q & 1:
                    have += 1
            if reserved > 0:
                for t in range(T):
                    if due_T[t] > 0 and groups_V[ids_T[t]] >> q & 1:
                        have += 1
            t = 0
            while have < quotas_Q2[q, 0] and reserved < free_at[last]:
                if t == T:
                    lacks_group_B[b] |= has_more_BQ[b, q]
                    break
                item = ids_T[t]
                if (
                    is_left_T[t]
                    and due_T[t] == 0
                    and (groups_V[item] & quotas_BT[b, t]) >> q & 1
                    and _keeps_caps(codes_VG[item], used_C, at_most_C, first_C, 0)
                ):
                    due_T[t] = last
                    reserved, have = reserved + 1, have + 1
                    for g in range(G):
                        used_C[codes_VG[item, g]] += 1
                t += 1

        # Places are filled from the top.
        relevance_T = _relevance(scores_T, state_T) if weight > 0 else np.empty(0)
        unit_TD = _vectors(ids_T[: T if weight > 0 else 0], unit_VD)
        nearest_T = np.zeros(T if weight > 0 else 0)
        put, start, has_ended = 0, 0, False
        for place in range(1, K + 1):
            if pin_at[place] >= 0:
                p = pin_at[place]
                item = pins_P2[p, 0]
                lists_BK[b, put], list_scores_BK[b, put] = item, pin_scores_BP[b, p]
                if weight > 0:
                    _approach(unit_VD[item], put == 0, is_left_T, unit_TD, nearest_T)
                put += 1
                continue
            if has_ended:
                continue
            # Where as many are due as there are free places left for them, one of them is taken.
            forced = 0
            if reserved > 0:
                for q in range(Q):
                    if last_Q[q] < place or forced > 0:
                        continue
                    due = 0
                    for t in range(T):
                        if is_left_T[t] and 0 < due_T[t] <= last_Q[q]:
                            due += 1
                    if due > 0 and due == free_at[last_Q[q]] - free_at[place - 1]:
                        forced = last_Q[q]
            # The best candidate: the first that may stand here or, with diversity, the one of the
            # greatest marginal relevance.
            while start < T and not is_left_T[start]:
                start += 1
            best, best_value = -1, -np.inf
            for t in range(start, T):
                if not is_left_T[t]:
                    continue
                if forced > 0:
                    may = 0 < due_T[t] <= forced
                else:
                    may = due_T[t] > 0 or (
                        state_T[t] == 2
                        and _keeps_caps(codes_VG[ids_T[t]], used_C, at_most_C, first_C, place)
                    )
                if not may:
                    continue
                if weight == 0:
                    best = t
                    break
                value = (1 - weight) * relevance_T[t] - weight * nearest_T[t]
                if best < 0 or value > best_value:
                    best, best_value = t, value
            if best < 0:
                is_short_B[b] |= has_more_B[b]
                has_ended = True
                continue
            if weight == 0 and state_T[best] != 2 and forced == 0:
                is_short_B[b] |= has_more_B[b]  # a better one may be missing
            # What was reserved has been counted in the caps already.
            is_left_T[best] = False
            item = ids_T[best]
            if due_T[best] > 0:
                due_T[best] = 0
                reserved -= 1
            else:
                for g in range(G):
                    used_C[codes_VG[item, g]] += 1
            lists_BK[b, put], list_scores_BK[b, put] = item, scores_T[best]
            if weight > 0:
                _approach(unit_VD[item], put == 0, is_left_T, unit_TD, nearest_T)
            put += 1

        # Leave the counts at zero for the next user.
        for g in range(G):
            for place in range(put):
                used_C[codes_VG[lists_BK[b, place], g]] = 0
            for p in range(P):
                used_C[codes_VG[pins_P2[p, 0], g]] = 0
            for t in range(T):
                if due_T[t] > 0:
                    used_C[codes_VG[ids_T[t], g]] = 0
