"""What every benchmark here is made of: pairs of a product's figure and its floor's, from one run."""
import dataclasses
import statistics


@dataclasses.dataclass
class Measurement:
    """Medians of one benchmark. `bound` is the ratio that the project promises, `better` its direction."""
    name: str
    ours: list[float]
    floor: list[float]
    unit: str
    bound: float
    better: str = "less"

    @property
    def ratio(self):
        return statistics.median(self.ours) / statistics.median(self.floor)

    @property
    def kept(self):
        return self.ratio <= self.bound if self.better == "less" else self.ratio >= self.bound

    def row(self):
        return (self.name, f"{statistics.median(self.ours):.3f}", f"{statistics.median(self.floor):.3f}",
                f"{self.ratio:.2f}", f"{'<=' if self.better == 'less' else '>='} {self.bound:g}",
                self.unit, str(min(len(self.ours), len(self.floor))), "yes" if self.kept else "NO")

    def as_json(self):
        return {"name": self.name, "ours": statistics.median(self.ours), "floor": statistics.median(self.floor),
                "ratio": self.ratio, "bound": self.bound, "better": self.better, "unit": self.unit,
                "runs": min(len(self.ours), len(self.floor)), "kept": self.kept,
                "ours_all": self.ours, "floor_all": self.floor}


HEADER = ("name", "ours", "floor", "ratio", "promised", "unit", "runs", "kept")


def table(measurements):
    rows = [HEADER] + [measurement.row() for measurement in measurements]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
