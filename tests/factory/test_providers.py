"""Choosing providers: what is added, what a requirement means afterwards, and against brute force on small catalogues."""

import subprocess
import sys
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pexen
from pexen import DefinitionError, Facts, Task, all_of, any_of, choose_providers
from pexen.core.planner import Planner

FACTS = Facts.of(commands={"sh"}, user="me", cpus=2)


def task(path, *requires, **meta):
    """Return a task; what it requires may be given by position."""
    return Task(print, path, **{"requires": list(requires), **meta})


def chosen(tasks, catalogue, **options):
    """Return the paths of what is added, after the planner has accepted it all."""
    made, choices = choose_providers(tasks, catalogue, facts=FACTS, **options)
    Planner().add([*made])
    paths = [one.name for one in made]
    assert paths[: len(tasks)] == [one.name for one in tasks]
    assert list(choices.added) == paths[len(tasks) :]
    return paths[len(tasks) :]


def bound(tasks, path):
    """Return what each requirement of a task means to the planner, by path."""
    planner = Planner()
    planner.add(list(tasks))
    return [[one.name for one in found] for _, found in planner.bindings(planner.find(path))]


def web(**more):
    """Return three servers, each with what else is said of it."""
    return [
        task(f"services/{name}", provides=["httpd", name], **more.get(name, {}))
        for name in ("apache", "nginx", "python")
    ]


# -- what is added ------------------------------------------------------------------------------------------------------


def test_nothing_is_asked_of_the_catalogue_when_nothing_is_missing():
    def catalogue():
        raise AssertionError("it was called")

    tasks = [task("db", provides="db"), task("a", "db", any_of("db"), "/db", all_of("db"))]
    made, choices = choose_providers(tasks, catalogue)
    assert made == tasks
    assert (choices.made, choices.added) == ((), {})


def test_a_name_with_one_provider_is_added_with_what_it_requires():
    catalogue = [task("s/db", "disk", provides="db"), task("s/disk", provides="disk"), task("s/other", provides="x")]
    assert chosen([task("a", "db")], lambda: catalogue) == ["s/db", "s/disk"]


def test_what_is_given_is_not_changed():
    user, server = task("a", any_of("httpd")), task("s/x", provides="httpd")
    lazy = task("s/y", provides="httpd")
    made, _ = choose_providers([user], [server, lazy], facts=FACTS)
    assert user.requires == (any_of("httpd"),)
    assert not lazy.lazy
    assert [one.lazy for one in made] == [False, False, True]


def test_of_several_providers_one_is_chosen():
    assert chosen([task("a", "httpd"), task("b", "httpd")], web()) == ["services/apache"]
    assert chosen([task("a", "httpd")], web(python={"preference": 1})) == ["services/python"]


def test_fewer_further_tasks_count_before_the_path():
    more = [task("s/ssl", "certs", provides="ssl"), task("s/certs", provides="certs")]
    assert chosen([task("a", "httpd")], [*web(apache={"requires": "ssl"}), *more]) == ["services/nginx"]


def test_what_somebody_needs_already_counts_before_preference():
    catalogue = web(python={"preference": 9})
    assert chosen([task("a", "httpd"), task("b", "nginx")], catalogue) == ["services/nginx"]


def test_who_lacks_what_the_machine_must_have_is_not_chosen():
    catalogue = web(apache={"host": "cmd:apache2"}, nginx={"when": "cpus > 2"})
    made, choices = choose_providers([task("a", "httpd")], catalogue, facts=FACTS)
    assert [one.name for one in made] == ["a", "services/python"]
    assert [(one.path, one.reason) for one in choices.made[0].rejected] == [
        ("services/apache", "needs the command apache2"),
        ("services/nginx", "needs cpus > 2 (cpus is 2)"),
    ]


def test_what_is_required_in_any_case_is_added_whatever_the_machine_lacks():
    """It is skipped when its time comes, with what requires it; the rest of the run goes on."""
    catalogue = [task("s/db", "disk", provides="db", host="root"), task("s/disk", provides="disk", host="root")]
    assert chosen([task("a", "db")], catalogue) == ["s/db", "s/disk"]


def test_a_candidate_whose_own_requirement_cannot_be_met_here_is_passed_over():
    catalogue = [*web(apache={"requires": "root"}), task("s/root", provides="root", host="root")]
    made, choices = choose_providers([task("a", "httpd")], catalogue, facts=FACTS)
    assert made[-1].name == "services/nginx"
    assert choices.made[0].rejected[0].reason == "requires s/root, which needs root (user is me)"


def test_conflicts_hold_both_ways_and_with_the_tasks():
    catalogue = web(apache={"conflicts": "nginx"})
    assert chosen([task("a", "httpd"), task("b", "nginx")], catalogue) == ["services/nginx"]
    assert chosen([task("a", "httpd"), task("b", conflicts="apache")], catalogue) == ["services/nginx"]
    assert chosen([task("a", "httpd"), task("b", provides="nginx")], catalogue) == ["services/nginx"]


def test_who_conflicts_with_a_name_it_provides_conflicts_with_others_only():
    meta = {"conflicts": "httpd"}
    assert chosen([task("a", "httpd")], web(apache=meta, nginx=meta, python=meta)) == ["services/apache"]


def test_it_goes_back_on_a_choice_that_turns_out_wrong():
    """The best for `a` conflicts, two steps further down, with the only one for `b`."""
    catalogue = [
        task("s/a1", "deep", provides="x", preference=9),
        task("s/a2", provides="x"),
        task("s/deep", provides="deep", conflicts="y"),
        task("s/y1", "z", provides="y", preference=3),
        task("s/y2", provides="y", preference=2, host="root"),
        task("s/z", provides="z"),
    ]
    made, choices = choose_providers([task("a", "x"), task("b", "y")], catalogue, facts=FACTS)
    assert [one.name for one in made[2:]] == ["s/a2", "s/y1", "s/z"]
    rejected = {one.path: one.reason for choice in choices.made for one in choice.rejected}
    assert rejected["s/a1"] == "requires s/deep, which conflicts with s/y1 over 'y'"


def test_clean_ups_come_along_with_what_they_require():
    catalogue = [*web(), task("s/clean", "soap", after="apache", cleanup=True), task("s/soap", provides="soap")]
    catalogue.append(task("s/other", after="nginx", cleanup=True))
    made, choices = choose_providers([task("a", "httpd")], catalogue, facts=FACTS)
    assert [one.name for one in made] == ["a", "services/apache", "s/clean", "s/soap"]
    assert choices.added["s/clean"] == "cleans up after services/apache"


def test_an_after_on_what_was_not_chosen_is_left_out():
    catalogue = [*web(), task("s/late", provides="late", after=["nginx", "httpd"])]
    made, _ = choose_providers([task("a", "late", "httpd", after="python")], catalogue, facts=FACTS)
    assert [one.after for one in made] == [(), (), ("httpd",)]
    Planner().add(made)


def test_all_of_a_path_and_a_task_are_no_choice():
    servers = web()
    catalogue = [*servers, task("set/one"), task("set/two")]
    assert len(chosen([task("a", all_of("httpd"))], catalogue)) == 3
    assert chosen([task("a", "/set")], catalogue) == ["set/one", "set/two"]
    assert chosen([task("a", servers[1])], catalogue) == ["services/nginx"]


def test_a_function_that_is_required_comes_from_the_catalogue():
    @pexen.task(path="s/db")
    def db():
        return 1

    assert chosen([Task(lambda db: db, "a", requires=db)], [db]) == ["s/db"]


def test_a_task_without_a_path_is_required_as_an_object():
    def db():
        return 7

    one = Task(db)
    made, _ = choose_providers([Task(lambda db: db + 1, "a", requires=one)], [one], facts=FACTS)
    assert pexen.run(made)["a"].value == 8


def test_the_line_about_it_has_an_end():
    catalogue = [task(f"s/{number}", provides=f"n{number}") for number in range(10)]
    _, choices = choose_providers([task("a", *(f"n{number}" for number in range(10)))], catalogue, facts=FACTS)
    assert str(choices).startswith("n0: s/0; n1: s/1; ")
    assert str(choices).endswith("; n7: s/7; and 2 more")
    assert str(choices.made[0]) == "'n0': s/0 (the only one)"


def test_a_path_that_is_taken_is_not_added_again():
    with pytest.raises(DefinitionError, match="another task of the run stands at its path"):
        chosen([task("x"), task("a", "httpd")], [task("x", provides="httpd")])
    with pytest.raises(DefinitionError, match="two tasks of the catalogue stand at 's/x'"):
        chosen([task("a", "httpd")], [task("s/x", provides="httpd"), task("s/x", provides="y")])


# -- what it means afterwards -------------------------------------------------------------------------------------------


def test_a_requirement_means_the_chosen_one_alone():
    """Somebody else needs another server by its own name."""
    tasks = [Task(lambda httpd: 0, "a", requires="httpd"), task("b", "nginx")]
    made, _ = choose_providers(tasks, web(), pins={"httpd": "python"}, facts=FACTS)
    assert bound(made, "a") == [["services/python"]]
    assert bound(made, "b") == [["services/nginx"]]


def test_what_the_tasks_provide_keeps_its_meaning():
    tasks = [task("x/db", provides="db"), task("x/a", "db"), task("b", "db"), task("c", "extra")]
    made, _ = choose_providers(tasks, [task("b/extra", provides=["extra", "db"])], facts=FACTS)
    assert bound(made, "b") == [["x/db"]]
    assert bound(made, "c") == [["b/extra"]]


def test_a_service_that_may_not_provide_its_own_name_provides_none():
    def service():
        yield

    db = Task(service, "s/db", service=True, provides=["db", "sql"])
    made, _ = choose_providers([task("db", provides="db"), task("a", "sql")], [db], facts=FACTS)
    assert made[-1].provides == ("sql",)
    db = Task(service, "s/db", service=True)
    made, _ = choose_providers([task("db", provides="db"), task("a", "/s/db")], [db], facts=FACTS)
    assert "db" not in made[-1].provides


def test_in_one_tree_the_nearest_is_meant_wherever_it_is():
    tasks = [task("a/test", "build"), task("b/make", provides="build")]
    catalogue = [task("a/make", provides="build"), task("c/make", provides="build")]
    made, _ = choose_providers(tasks, [*tasks, *catalogue], facts=FACTS, same_tree=True)
    assert bound(made, "a/test") == [["a/make"]]
    assert len(made) == 3
    made, _ = choose_providers(tasks, catalogue, facts=FACTS)
    assert bound(made, "a/test") == [["b/make"]]


# -- any_of -------------------------------------------------------------------------------------------------------------


def fallbacks(tasks, catalogue, **options):
    made, choices = choose_providers(tasks, catalogue, facts=FACTS, **options)
    Planner().add(list(made))
    return made, next(choice for choice in choices.made if choice.name.startswith("any_of"))


def test_what_else_would_do_comes_along_lazily_in_order_of_preference():
    catalogue = web(apache={"preference": 1, "requires": "ssl"}, nginx={"preference": 3}, python={"preference": 2})
    made, choice = fallbacks(
        [Task(lambda httpd: httpd, "a", requires=any_of("httpd"))], [*catalogue, task("s/ssl", provides="ssl")]
    )
    assert choice.chosen == ("services/nginx",)
    assert choice.fallbacks == ("services/python", "services/apache")
    assert {one.name: one.lazy for one in made} == {
        "a": False, "services/apache": True, "services/nginx": False, "services/python": True, "s/ssl": True,
    }  # fmt: skip
    assert bound(made, "a") == [["services/nginx", "services/python", "services/apache"]]


def test_a_fallback_may_conflict_with_what_it_stands_in_for_but_with_nothing_else():
    meta = {"conflicts": "httpd"}
    _, choice = fallbacks([task("a", any_of("httpd"))], web(apache=meta, nginx=meta, python=meta))
    assert choice.fallbacks == ("services/nginx", "services/python")
    _, choice = fallbacks(
        [task("a", any_of("httpd")), task("b", "x")], [*web(), task("s/x", provides="x", conflicts="nginx")]
    )
    assert choice.fallbacks == ("services/python",)
    assert [(one.path, one.reason) for one in choice.rejected] == [
        ("services/nginx", "conflicts with s/x over 'nginx'")
    ]


def test_a_fallback_that_would_close_a_cycle_is_left_out():
    catalogue = [
        task("s/r", any_of("x"), provides="r"),
        task("s/x1", provides="x", preference=1),
        task("s/x2", "y", provides="x"),
        task("s/y1", "r", provides="y", preference=1),
        task("s/y2", "r", provides="y"),
    ]
    _, choice = fallbacks([task("a", "r")], catalogue)
    assert (choice.chosen, choice.fallbacks) == (("s/x1",), ())


def test_the_chosen_one_is_never_lazy():
    catalogue = [task("s/x1", provides=["x", "y"], lazy=True), task("s/x2", provides="x", lazy=True, preference=9)]
    made, choice = fallbacks([task("a", any_of("x"), "y")], catalogue)
    assert choice.chosen == ("s/x1",)
    assert [one.lazy for one in made] == [False, False, True]


def test_an_alternative_that_nobody_can_have_here_is_left_out():
    tasks = [task("a", any_of("nginx", "apache")), task("nginx", provides="nginx")]
    made, choice = fallbacks(tasks, [task("s/apache", provides="apache", host="root")])
    assert bound(made, "a") == [["nginx"]]
    assert (choice.chosen, choice.rejected[0].reason) == ((), "needs root (user is me)")
    made, choice = fallbacks(tasks, [task("s/apache", provides="apache")])
    assert bound(made, "a") == [["nginx", "s/apache"]]
    assert choice.fallbacks == ("s/apache",)


def test_one_who_requires_the_name_alone_does_not_wake_the_others():
    made, _ = choose_providers([task("a", any_of("httpd")), task("b", "httpd")], web(), facts=FACTS)
    assert bound(made, "b") == [["services/apache"]]


def test_when_the_chosen_one_fails_the_next_is_run_and_that_is_said():
    def fails():
        raise AssertionError("no")

    servers = [
        Task(fails, "s/1", provides="httpd", preference=2),
        Task(lambda: "two", "s/2", provides="httpd", preference=1),
    ]
    servers.append(Task(lambda: "three", "s/3", provides="httpd"))
    made, _ = choose_providers([Task(lambda httpd: httpd, "a", requires=any_of("httpd"))], servers)
    sched = pexen.Sched(made, pool=pexen.ThreadPool(1))
    run = sched.start()
    run.wait()
    results = sched.results
    assert list(run.notices) == ["s/1 failed: s/2 is started instead, for any_of('/s/1', '/s/2', '/s/3')"]
    assert results["a"].value == "two"
    assert results["s/1"].status == "failed"
    assert results["s/3"].start == 0.0


# -- pins ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["services/nginx", "/services/nginx", "nginx"])
def test_a_pin_is_a_path_or_a_name(what):
    made, choices = choose_providers([task("a", any_of("httpd"))], web(), pins={"httpd": what}, facts=FACTS)
    assert [one.name for one in made] == ["a", "services/nginx"]
    assert choices.made[0].why == "pinned"
    assert {one.reason for one in choices.made[0].rejected} == {f"pinned to {what}"}


def test_the_name_of_a_file_needs_no_suffix():
    catalogue = [task("s/a.sh", provides="httpd"), task("s/b.sh", provides="httpd")]
    assert chosen([task("x", "httpd")], catalogue, pins={"httpd": "b"}) == ["s/b.sh"]


def test_a_pin_that_means_nothing_is_an_error_with_the_nearest_spelling():
    with pytest.raises(DefinitionError, match="nobody provides 'htpd'") as caught:
        chosen([task("a", "httpd")], web(), pins={"htpd": "nginx"})
    assert "did you mean 'httpd'?" in str(caught.value)
    with pytest.raises(DefinitionError, match="'nginks' does not provide 'httpd'") as caught:
        chosen([task("a", "httpd")], web(), pins={"httpd": "nginks"})
    assert "did you mean 'nginx'?" in str(caught.value)


def test_a_pin_that_cannot_be_had_is_an_error_that_says_so():
    with pytest.raises(DefinitionError, match="a requires 'httpd', and nothing") as caught:
        chosen([task("a", "httpd"), task("b", conflicts="nginx")], web(), pins={"httpd": "nginx"})
    text = str(caught.value)
    assert "services/nginx: conflicts with b over 'nginx'" in text
    assert "services/apache: pinned to nginx" in text
    assert "the pins leave no choice" in text


# -- errors -------------------------------------------------------------------------------------------------------------


def test_what_clashes_is_named_with_what_was_refused_and_why():
    catalogue = [
        task("s/apache", provides="httpd", conflicts="ftpd"),
        task("s/nginx", provides="httpd", host="cmd:nginx"),
        task("s/ftp", provides="ftpd"),
        task("s/unrelated", provides="u"),
    ]
    with pytest.raises(DefinitionError) as caught:
        chosen([task("a", "httpd"), task("b", "ftpd"), task("c", "u")], catalogue)
    text = str(caught.value)
    assert "requirements clash" in text
    assert "a requires 'httpd'" in text
    assert "b requires 'ftpd'" in text
    assert "s/apache: conflicts with s/ftp over 'ftpd'" in text
    assert "s/nginx: needs the command nginx" in text
    assert "unrelated" not in text


def test_all_that_clash_are_named_when_they_are_more_than_two():
    """Three want a machine of their own, and there are two."""
    catalogue = [
        task(f"s/{wanted}/{host}", provides=[wanted, host], conflicts=host) for wanted in "pqr" for host in ("h1", "h2")
    ]
    catalogue += [task("s/u1", provides="u"), task("s/u2", provides="u")]
    with pytest.raises(DefinitionError) as caught:
        chosen([task(f"t/{wanted}", wanted) for wanted in "pqru"], catalogue)
    assert caught.value.headline == "requirements clash: t/p requires 'p'; t/q requires 'q'; t/r requires 'r'"


def test_what_nobody_has_at_all_is_an_error_with_the_nearest_spelling():
    with pytest.raises(DefinitionError, match="a requires 'htpd', which neither") as caught:
        chosen([task("a", "htpd")], web())
    assert "did you mean 'httpd'?" in str(caught.value)


def test_tasks_that_conflict_are_an_error_unless_one_is_lazy():
    tasks = [task("a", "x"), task("n", provides="n"), task("m", conflicts="n")]
    with pytest.raises(DefinitionError, match="m and n cannot both be in one run"):
        chosen(tasks, [task("s/x", provides="x")])
    tasks[2] = task("m", conflicts="n", lazy=True)
    assert chosen(tasks, [task("s/x", provides="x")]) == ["s/x"]


def test_a_cycle_is_no_solution():
    catalogue = [task("s/1", "y", provides="x"), task("s/2", provides="x"), task("s/y", "x", provides="y")]
    assert chosen([task("a", "y")], catalogue) == ["s/2", "s/y"]
    with pytest.raises(DefinitionError, match="requirements clash: s/y requires 'x'") as caught:
        chosen([task("a", "y")], [catalogue[0], catalogue[2]])
    assert "s/1: requires s/y itself" in str(caught.value)
    assert "s/y: requires 'x'" in str(caught.value)


def test_a_cycle_that_only_the_choice_would_close_is_avoided():
    catalogue = [
        task("s/a", "y", provides="x", preference=1), task("s/b", provides="x"),
        task("s/c", "x", provides="y"), task("s/d", provides="y", preference=-1),
    ]  # fmt: skip
    assert chosen([task("t", "x", "y")], catalogue) == ["s/a", "s/d"]


# -- any catalogue ------------------------------------------------------------------------------------------------------

NAMES = ["p", "q", "r", "s"]
name = st.sampled_from(NAMES)
one = st.fixed_dictionaries({
    "provides": st.lists(name, min_size=1, max_size=2, unique=True),
    "requires": st.lists(name, max_size=2, unique=True),
    "conflicts": st.lists(name, max_size=1),
    "preference": st.integers(0, 2),
    "host": st.sampled_from([[], [], [], ["root"]]),
})  # fmt: skip


def provider(number, said):
    requires = [each for each in said["requires"] if each not in said["provides"]]
    return Task(print, f"s/{number}", **{**said, "requires": requires})


def inevitable(tasks, catalogue):
    """Return what any solution has in it: the only providers, and the only providers of what these require."""
    found, waiting = {}, list(tasks)
    while waiting:
        for wanted in waiting.pop().requires:
            who = [each for each in catalogue if wanted in each.provides]
            if len(who) == 1 and who[0].path not in found:
                found[who[0].path] = who[0]
                waiting += who
    return found


def is_sound(tasks, added, exempt):
    """Tell whether everything required is there, nothing conflicts, and the machine will do."""
    every = [*tasks, *added]
    met = all(
        any(wanted in other.provides for other in every if other is not one) for one in every for wanted in one.requires
    )
    apart = not any(set(a.conflicts) & set(b.provides) for a in every for b in every if a is not b)
    return met and apart and all(not one.host or one.path in exempt for one in added) and is_orderly(every)


def is_orderly(every):
    """Tell whether all can be started, one after the other, when those that something is required of come first."""
    left, started = list(every), []
    while left:
        able = [
            one for one in left if all(any(wanted in other.provides for other in started) for wanted in one.requires)
        ]
        if not able:
            return False
        started += able
        left = [one for one in left if one not in able]
    return True


@settings(max_examples=80, deadline=None)
@given(
    st.lists(one, min_size=1, max_size=6), st.lists(name, min_size=1, max_size=3, unique=True), st.lists(name, max_size=1),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_there_is_a_solution_if_and_only_if_brute_force_finds_one(said, wanted, refused, shuffle):
    catalogue = [provider(number, each) for number, each in enumerate(said)]
    tasks = [Task(print, f"t/{each}", requires=each) for each in wanted] + [Task(print, "t/no", conflicts=refused)]
    exempt = inevitable(tasks, catalogue)
    sets = (part for size in range(len(catalogue) + 1) for part in combinations(catalogue, size))
    exists = any(is_sound(tasks, part, exempt) for part in sets)
    try:
        made, choices = choose_providers(tasks, catalogue, facts=FACTS)
    except DefinitionError:
        assert not exists
        return
    assert exists
    Planner().add(made)
    added = [each for each in catalogue if each.path in choices.added]
    assert is_sound(tasks, added, exempt)
    assert {each.name for each in made} == {each.path for each in (*tasks, *added)}
    mixed, tasks_mixed = catalogue[:], tasks[:]
    shuffle.shuffle(mixed)
    shuffle.shuffle(tasks_mixed)
    _, again = choose_providers(tasks_mixed, mixed, facts=FACTS)
    assert set(again.added) == set(choices.added)
    assert {choice.name: choice.chosen for choice in again.made} == {
        choice.name: choice.chosen for choice in choices.made
    }


several = st.lists(name, min_size=1, max_size=2, unique=True)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(one, st.lists(several, max_size=1)), min_size=1, max_size=6), several, st.lists(name, max_size=1)
)
def test_fallbacks_fit_whatever_the_catalogue(said, wanted, plain):
    catalogue = []
    for number, (each, any_names) in enumerate(said):
        made = provider(number, each)
        extra = [any_of(*names) for names in any_names if not set(names) & set(made.provides)]
        catalogue.append(made.replace(requires=[*made.requires, *extra]))
    tasks = [
        Task(print, "t/any", requires=any_of(*wanted)),
        *(Task(print, f"t/{each}", requires=each) for each in plain),
    ]
    try:
        made, choices = choose_providers(tasks, catalogue, facts=FACTS)
    except DefinitionError:
        return
    Planner().add([one.replace() for one in made])
    lazy = {one.path for one in made if one.lazy}
    instead = [(*choice.chosen, *choice.fallbacks) for choice in choices.made if choice.fallbacks]
    for a, b in combinations(made, 2):
        if {*a.conflicts} & {*b.provides} or {*b.conflicts} & {*a.provides}:
            assert {a.path, b.path} & lazy
            assert any({a.path, b.path} <= set(paths) for paths in instead)
    results = pexen.run(made, pool=pexen.InlinePool())
    assert not [one for one in results.values() if one.status == "failed"]


def test_hashes_do_not_matter():
    code = (
        "import random\n"
        "from tests.factory.test_providers import *\n"
        "rng = random.Random(7)\n"
        "for _ in range(40):\n"
        "    pick = lambda most: rng.sample(NAMES, rng.randint(0, most))\n"
        "    said = [dict(provides=pick(2) or ['p'], requires=pick(2), conflicts=pick(1)) for _ in range(6)]\n"
        "    catalogue = [provider(*each) for each in enumerate(said)]\n"
        "    try:\n"
        "        print(choose_providers([task('a', 'p', any_of('q', 'r'))], catalogue, facts=FACTS)[1])\n"
        "    except DefinitionError as error:\n"
        "        print(error)\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(map(str, sys.path))},
            capture_output=True, text=True, check=True, timeout=50,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(told) == 1


def test_resolvelib_is_imported_only_to_choose():
    code = (
        "import sys, pexen\n"
        "from pexen.factory import providers\n"
        "pexen.choose_providers([pexen.Task(print, 'a')], None)\n"
        "assert 'resolvelib' not in sys.modules\n"
        "pexen.choose_providers([pexen.Task(print, 'a', requires='b')], [pexen.Task(print, 'b', provides='b')])\n"
        "assert 'resolvelib' in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(map(str, sys.path))}, check=True, timeout=50
    )
