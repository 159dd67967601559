"""A pipeline that passes values: extract, several transforms side by side, a join of all their values, a report.

The transforms run in processes of their own (`pool="cpu"`); values go there and come back by themselves.
"""

import random
import statistics

import pexen

STATIONS = ("north", "south", "summit")


@pexen.task(provides="readings")
def extract():
    """Temperatures of a year at each station; a real pipeline would fetch them."""
    chance = random.Random(2024)
    means = zip(STATIONS, (10, 14, -2), strict=True)
    return {station: [round(chance.gauss(mean, 6), 1) for _ in range(365)] for station, mean in means}


def summarise(readings, station):
    """What is worth knowing about one station: its name, the mean, the coldest and the warmest day."""
    values = readings[station]
    return station, round(statistics.fmean(values), 1), min(values), max(values)


# The same function once for each station. `readings` is filled by what it requires, `station` is said here.
transform = {"requires": "readings", "provides": "summary", "pool": "cpu"}
transforms = [
    pexen.Task(summarise, path=f"summarise/{station}", kwargs={"station": station}, **transform) for station in STATIONS
]


@pexen.task(requires={"summaries": pexen.all_of("summary")}, provides="table")
def join(summaries):
    """All summaries as one list, the warmest station first."""
    return sorted(summaries, key=lambda summary: -summary[1])


@pexen.task(requires="table")
def report(table):
    """The table as text."""
    return "\n".join(f"{station:8} mean {mean:5} from {low:5} to {high:5}" for station, mean, low, high in table)


results = pexen.run([extract, *transforms, join, report], pools={"cpu": pexen.ProcessPool(workers=2)})
results.check()  # raises what failed
print(results["report"].value)
