import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexen.core.planner import Planner
from pexen.errors import DefinitionError
from pexen.factory.select import select
from pexen.model.meta import all_of, any_of
from pexen.model.task import Task, task
from tests.factory.trees import paths


def make(path, **meta):
    return Task(lambda: None, path=path, **meta)


def tree():
    return [
        make("setup/db", provides="db", tags="slow"),
        make("setup/web", provides="web", requires="db"),
        make("net/ping.sh", tags=["net", "smoke"]),
        make("net/http/get.sh", requires="web", after="net/ping.sh".replace("net", "/net"), tags="net"),
        make("net/http/put.sh", requires="web", after=["/net/http/get.sh", "/setup"]),
        make("clean/db", requires="db", cleanup=True, after="/net"),
        make("clean/logs", after="/net/http", cleanup=True),
        make("alone/Kernel.py", tags="smoke"),
    ]


def chosen(**how):
    selection = select(tree(), **how)
    return " ".join(path for path, why in selection.why.items() if why == "selected")


def test_nothing_asked_for_is_everything():
    tasks = tree()
    selection = select(tasks)
    assert selection.tasks == tasks
    assert selection.chosen == len(tasks)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({"paths": ["net/http"]}, "net/http/get.sh net/http/put.sh"),
        ({"paths": ["/net/http/"]}, "net/http/get.sh net/http/put.sh"),
        ({"paths": ["net/ping.sh", "alone"]}, "net/ping.sh alone/Kernel.py"),
        ({"paths": ["net/p"]}, ""),
        ({"keyword": "kernel"}, "alone/Kernel.py"),
        ({"keyword": "KERNEL or ping"}, "net/ping.sh alone/Kernel.py"),
        ({"keyword": "http and not get"}, "net/http/put.sh"),
        ({"keyword": "not (net or setup or clean)"}, "alone/Kernel.py"),
        ({"keyword": "net/http/g"}, "net/http/get.sh"),
        ({"keyword": "'and' or ping"}, "net/ping.sh"),
        ({"tags": "smoke"}, "net/ping.sh alone/Kernel.py"),
        ({"tags": "net and not smoke"}, "net/http/get.sh"),
        ({"tags": "smo"}, ""),
        ({"tags": "net", "keyword": "get", "paths": ["net"]}, "net/http/get.sh"),
        ({"paths": ["setup"], "tags": "smoke"}, ""),
    ],
)
def test_what_is_chosen(how, wanted):
    assert chosen(**how) == wanted


def test_paths_at_which_nothing_stands_are_told():
    selection = select(tree(), paths=["net/htpp", "setup", ""])
    assert selection.unmatched == ("net/htpp",)
    assert "net/http" in selection.hint
    assert select(tree(), paths=["setup"]).hint == ""


def test_requirements_and_clean_ups_come_along_and_say_why():
    selection = select(tree(), paths=["net/http/get.sh"])
    assert selection.why == {
        "net/http/get.sh": "selected",
        "setup/web": "required by net/http/get.sh",
        "setup/db": "required by setup/web",
        "clean/db": "cleans up after setup/db",
        "clean/logs": "cleans up after net/http/get.sh",
    }
    assert paths(selection.tasks) == ["setup/db", "setup/web", "net/http/get.sh", "clean/db", "clean/logs"]
    assert selection.chosen == 1


def test_order_among_what_was_not_selected_is_dropped_from_copies():
    tasks = tree()
    selection = select(tasks, paths=["net/http/get.sh"])
    by_path = {task.path: task for task in selection.tasks}
    assert by_path["net/http/get.sh"].after == ()
    assert by_path["clean/db"].after == ("/net",)
    assert by_path["setup/db"] is tasks[0]
    assert tasks[3].after == ("/net/ping.sh",)
    (put,) = (task for task in select(tasks, paths=["net/http/put.sh"]).tasks if task.path.endswith("put.sh"))
    assert put.after == ("/setup",)


def test_without_dependencies_their_names_are_dropped():
    selection = select(tree(), paths=["net/http", "clean"], deps=False)
    assert paths(selection.tasks) == ["net/http/get.sh", "net/http/put.sh", "clean/db", "clean/logs"]
    assert [task.requires for task in selection.tasks] == [(), (), (), ()]
    assert [task.after for task in selection.tasks] == [(), ("/net/http/get.sh",), ("/net",), ("/net/http",)]


def test_all_kinds_of_requirements():
    @task
    def function():
        pass

    value = make("value")
    tasks = [
        Task(function, path="f"),
        value,
        make("s/one"),
        make("s/two"),
        make("a", provides="x"),
        make("b", provides="x"),
        make("c", provides=("disk", 1)),
        make("service", service=True),
        make("other"),
        make("user", requires=[function, value, "/s", any_of("x", "/other"), all_of("x"), ("disk", 1), "service"]),
        make("by_name", requires={"p": "x"}),
    ]
    assert paths(select(tasks, paths=["user"]).tasks) == paths(tasks)[:-1]
    assert paths(select(tasks, paths=["by_name"]).tasks) == ["a", "b", "by_name"]
    (left,) = select(tasks, paths=["user"], deps=False).tasks
    assert left.requires == ()
    left = select(tasks, paths=["user", "other", "a"], deps=False).tasks[-1]
    assert left.requires == (any_of("x", "/other"), all_of("x"))


def test_names_are_looked_up_over_everything_collected():
    tasks = [
        make("a/build", provides="build"),
        make("b/build", provides="build"),
        make("a/test", requires="build"),
        make("b/later", after="build"),
        make("a/later", after="build"),
    ]
    assert paths(select(tasks, paths=["a/test"]).tasks) == ["a/build", "a/test"]
    selection = select(tasks, paths=["a/test", "b/later", "a/later"])
    assert [task.after for task in selection.tasks] == [(), (), (), ("build",)]


def test_names_that_nobody_provides_stay_for_the_planner_to_refuse():
    tasks = [make("x", requires="tpyo", after="/nowhere"), make("y")]
    (x,) = select(tasks, paths=["x"], deps=False).tasks
    assert (x.requires, x.after) == (("tpyo",), ("/nowhere",))


@pytest.mark.parametrize(
    ("option", "how"), [("-k", {"keyword": "a b"}), ("-m", {"tags": "not"}), ("-k", {"keyword": "'a"})]
)
def test_malformed_expressions(option, how):
    with pytest.raises(DefinitionError, match=f"^{option}: ") as caught:
        select(tree(), **how)
    assert "here" in dict(caught.value.facts)


NAMES = st.sampled_from(["n1", "n2", "n3"])
FOLDERS = st.sampled_from(["", "a/", "a/b/", "c/"])


@st.composite
def graphs(draw):
    """Tasks that only require what stands before them, at places all over a small tree."""
    tasks, known = [], []
    for number in range(draw(st.integers(1, 12))):
        path = f"{draw(FOLDERS)}t{number}"
        requires = draw(st.lists(st.sampled_from(known), max_size=2)) if known else []
        after = draw(st.lists(st.sampled_from(known), max_size=2)) if known else []
        provides = f"only{number}"
        tasks.append(make(path, requires=requires, after=after, provides=[provides], cleanup=draw(st.booleans())))
        known += [f"/{path}", provides]
    shared = [task for task in tasks if draw(st.booleans())]
    for task_ in shared:
        task_.provides += ("shared",)
    return tasks


@given(graphs(), st.sets(st.integers(0, 11)), st.booleans())
def test_whatever_is_selected_the_planner_accepts_and_binds_as_before(tasks, wanted, deps):
    chosen = [task.path for number, task in enumerate(tasks) if number in wanted]
    selection = select(tasks, paths=chosen or ["none"], deps=deps)
    planner = Planner()
    planner.add(selection.tasks)
    assert set(chosen) <= set(selection.why)
    assert set(selection.why) == set(paths(selection.tasks))
    if not deps:
        assert set(selection.why) == set(chosen)


def test_what_is_apart_is_chosen_from_inside_and_pulled_in_by_nobody():
    tasks = [
        Task(print, "a", requires=["x", "y"], after="x"), Task(print, "s/x", provides="x"), Task(print, "s/in/x", provides="x"),
        Task(print, "y", provides="y", cleanup=True), Task(print, "s/clean", after="/a", cleanup=True),
    ]  # fmt: skip

    def paths(*wanted, **options):
        return [task.path for task in select(tasks, paths=wanted, apart=["s"], **options).tasks]

    assert paths() == ["a", "y"]
    assert paths("") == ["a", "y"]
    assert paths("s/in") == ["s/in/x"]
    assert paths("a", "s") == ["a", "s/x", "s/in/x", "y", "s/clean"]
    [task, *_] = select(tasks, apart=["s"]).tasks
    assert (task.requires, task.after) == (("x", "y"), ("x",))
    [task] = select(tasks, paths=["a"], apart=["s"], deps=False).tasks
    assert (task.requires, task.after) == ((), ())


def test_without_requirements_a_name_may_be_that_of_another_catalogue():
    tasks = [Task(print, "a", requires=["x", any_of("x", "b")]), Task(print, "b", provides="b")]
    one, other = select(tasks, deps=False, elsewhere=True).tasks
    assert one.requires == (any_of("b"),)
    assert other is tasks[1]
    assert select(tasks, deps=False).tasks[0] is tasks[0]
