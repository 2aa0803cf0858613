"""What is kept goes in time, and when there is no room."""

from dalle3_jax.serving.expiring_store import ExpiringStore


def test_values_expire():
    now = [0.0]
    store = ExpiringStore[str](10, 100, lambda: now[0])
    store.put("a", "x")
    now[0] = 9.0
    store.put("b", "y")
    assert store.get("a") == "x"
    now[0] = 10.0
    assert (store.get("a"), store.get("b"), store.size) == (None, "y", 1)


def test_the_oldest_make_room():
    store = ExpiringStore[str](10, 5, lambda: 0.0)
    for name, size in (("a", 2), ("b", 2), ("c", 3)):
        store.put(name, name, size)
    assert [store.get(name) for name in "abc"] == [None, "b", "c"]
    store.put("d", "d", 9)
    assert [store.get(name) for name in "bcd"] == [None, None, "d"]


def test_a_name_is_counted_once_and_may_be_removed():
    store = ExpiringStore[str](10, 100, lambda: 0.0)
    store.put("a", "x", 3)
    store.put("a", "y", 4)
    assert (store.get("a"), store.size) == ("y", 4)
    store.remove("a")
    store.remove("a")
    assert (store.get("a"), store.size) == (None, 0)


def test_what_is_held_stays_until_its_expiry_begins_and_then_for_its_time():
    now = [0.0]
    store = ExpiringStore[str](10, 3, lambda: now[0])
    store.hold("a", "x", 3)
    store.put("b", "y")
    now[0] = 100.0
    assert (store.get("a"), store.get("b"), store.size) == ("x", None, 0)
    store.begin_expiry("a")
    now[0] = 109.0
    store.begin_expiry("a")
    assert (store.get("a"), store.size) == ("x", 3)
    now[0] = 110.0
    assert (store.get("a"), store.size) == (None, 0)
    store.hold("a", "z")
    store.remove("a")
    store.begin_expiry("a")
    assert store.get("a") is None
