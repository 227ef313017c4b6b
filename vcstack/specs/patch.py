"""Merge patches: RFC 7386, and its variant for status where conditions merge by type. Pure."""

from collections.abc import Mapping
from typing import Any


def merge_patch(target: Any, patch: Any) -> Any:
    """Return target with the RFC 7386 patch applied; neither is changed.

    Objects merge, null removes, everything else (lists too) replaces.
    """
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def create_merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the RFC 7386 patch that makes new of old; empty when they are equal."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            if before != value:
                patch[key] = create_merge_patch(before, value)
        elif key not in old or before != value:
            patch[key] = value
    return patch


def merge_status_patch(status: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status with the patch applied, conditions merged by their type.

    lastTransitionTime stays where a condition's status does not change, so a repeated observation
    changes nothing.
    """
    conditions = patch.get("conditions")
    result: dict[str, Any] = merge_patch(status, {k: v for k, v in patch.items() if k != "conditions"})
    if isinstance(conditions, list):
        result["conditions"] = _merge_by_type(result.get("conditions") or [], conditions)
    elif "conditions" in patch:
        result = merge_patch(result, {"conditions": conditions})
    return result


def _merge_by_type(current: list[Any], new: list[Any]) -> list[Any]:
    merged: dict[Any, Any] = {c["type"]: c for c in current}
    for index, condition in enumerate(new):
        if not isinstance(condition, Mapping) or not isinstance(condition.get("type"), str):
            # Kept for the schema to refuse: what is wrong must not vanish silently.
            merged[("malformed", index)] = condition
            continue
        before = merged.get(condition["type"])
        if before and before.get("status") == condition.get("status") and "lastTransitionTime" in before:
            condition = {**condition, "lastTransitionTime": before["lastTransitionTime"]}
        merged[condition["type"]] = condition
    return list(merged.values())
