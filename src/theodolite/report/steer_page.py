"""The page of a comparison of control methods: its sections in order, and the sentence that stands for it."""

from theodolite.core.control_documents import SteeringFacts, facts_of
from theodolite.core.run import Run
from theodolite.report.blocks import Facts, Line, Section, Table, Value, number
from theodolite.report.counted import counted_warnings
from theodolite.report.numbers import count, share, span
from theodolite.report.pages import Page
from theodolite.report.steer_answer_section import answer_section, dictionary, leaders
from theodolite.report.steer_contrasts_section import contrasts, contrasts_section
from theodolite.report.steer_curves_section import curves, depth_sections, level_sections
from theodolite.report.steer_damage_section import acting, damage, damage_section
from theodolite.report.steer_effects_section import effects, effects_section
from theodolite.report.steer_strengths_section import strengths, strengths_section
from theodolite.report.steer_trust_section import trust_section, trust_table
from theodolite.report.steer_words import phrase


def _sections(run: Run, show_text: bool) -> list[Section]:
    return [
        answer_section(run),
        effects_section(run),
        contrasts_section(run),
        *level_sections(run),
        *depth_sections(run),
        strengths_section(run),
        damage_section(run),
        trust_section(run, phrase),
        _classifiers(run),
        counted_warnings(run.notes),
        _provenance(run),
    ]


def _classifiers(run: Run) -> Section:
    """Return the section on the classifiers that score written text."""
    lines = tuple(
        Line(
            (
                *(Value(one["name"]), Value(one["method"])),
                number(share(one["auroc"]["value"]), span(one["auroc"]["lo"], one["auroc"]["hi"])),
                number(share(one["ece"]["value"]), span(one["ece"]["lo"], one["ece"]["hi"])),
                number(count(one["auroc"]["n"]), f"in {count(one['auroc']['n_groups'])} groups"),
            )
        )
        for one in facts_of(run, "steering", SteeringFacts)["classifiers"]
    )
    head = (Value("Name"), Value("Method"), number("AUROC"), number("Calibration error"), number("n"))
    caption = "Classifiers that score written text, out of fold on texts that no direction has seen."
    return Section("Classifiers of written text", [Table(caption, head, lines)])


def _provenance(run: Run) -> Section:
    manifest, model = run.manifest, run.facts.get("model") or {}
    machine = manifest["machine"]
    pairs = (
        ("Run", manifest["id"]),
        ("Recipe digest", manifest["digest"]),
        ("Model hash", str(model.get("hash", "not recorded"))),
        ("Started, finished", f"{manifest['started']}, {manifest['finished']}"),
        ("Machine", f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB"),
    )
    return Section("Provenance", [Facts(pairs)])


def _sentence(run: Run) -> str:
    facts = facts_of(run, "steering", SteeringFacts)
    word, why = dictionary(run, facts)
    return " ".join([run.recipe["title"], *leaders(facts), f"Was the dictionary needed? {word}: {why}."])


PAGE = Page(
    _sections,
    lambda run: str(run.recipe["title"]),
    _sentence,
    lambda run: [effects(run), contrasts(run)],
    {
        "effects": effects,
        "contrasts": contrasts,
        "strengths": strengths,
        "acting": acting,
        "damage": damage,
        "trust": lambda run: trust_table(run, phrase),
    },
    {"curves": curves},
)
