"""One validated recipe from what a user typed: a shipped name, a recipe file, or their own labelled file."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from theodolite.core.atomic import file_sha256
from theodolite.core.code_hash import helpers_hash
from theodolite.core.errors import UserError
from theodolite.core.methods import file_of, is_file, parse
from theodolite.core.recipe import BaseRecipe, Contrast, Recipe, Written, read, validated
from theodolite.core.recipe import names as recipe_names
from theodolite.core.slug import slug
from theodolite.data.sources.tables import form_of
from theodolite.dictionaries.opening import control_folder
from theodolite.dictionaries.training import corpus
from theodolite.study import own
from theodolite.study.compare_request import CompareRequest
from theodolite.study.option import listed

# Files of a model's folder that decide, with the weights, what it computes of a text
BESIDE_WEIGHTS = (
    "config.json",
    "tokenizer*",
    "*token*.json",
    "vocab*",
    "merges*",
    "*.model",
    "chat_template*",
    "additional_chat_templates/*",
)
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")  # in any case, and also with .gz or .zst behind

# What every comparison puts side by side unless the user names methods; `@` picks the view.
LADDER = (0.7, 0.8, 0.9, 0.95)  # accuracies of selective prediction
DENSE = ("difference_in_means", "lat", "logistic", "ridge", "lda", "mlp")
PLAIN = ("logistic", "ridge", "difference_in_means", "lda", "mlp")
SPARSE = ("k_sparse", *(f"k_sparse(k={k})" for k in (1, 4, 16, 64, 128)))
FEW_SHOT = "prompting(column=few_shot)"
SHUFFLES = [f"shuffled_labels(draw={i})" for i in range(10)]  # one shuffle per training set is a band of +-.3
METHODS = [
    *DENSE,
    *(f"{m}@latents" for m in (*SPARSE, *PLAIN)),
    *(f"{m}@{view}" for view in ("reconstruction", "error") for m in PLAIN),
    *(f"{m}@control" for m in (*SPARSE, "logistic")),
    "logistic@state+latents",
    "word_ngrams",
    "char_ngrams",
    "cased_ngrams",
    "surface",
    "length",
    "sentence",
    "embedding",
    "prompting(column=zero_shot)",
    FEW_SHOT,
    *(f"random_direction(draw={i})" for i in range(10)),
    *SHUFFLES,
    "majority",
]
CONTRASTS = [
    Contrast(method="k_sparse@latents", than="logistic"),
    Contrast(method="difference_in_means", than="logistic"),
    Contrast(method="logistic@state+latents", than="logistic"),
]
QUICK = {"seeds": 2, "limit": 240}
QUICK_LEAVES_OUT = ("mlp", "prompting", "lda", "ridge@", "difference_in_means@")


# Fields of a request that, where given, take the place of the recipe's of the same name
OVERRIDES = (
    *("question", "model", "revision", "format", "dtype", "max_tokens"),
    *("limit", "leaks", "seeds", "margin", "pooling", "positions"),
)


def resolve(request: CompareRequest, weights: str = "") -> Recipe:
    """The recipe a request stands for; a value of None leaves the recipe's own. The first site is the matched one.

    Data, shifts and model are names or paths here, and methods are words. weights: identity of a model that is already
    loaded. Whatever is named by a path has its content in the recipe's `files`, so that other weights under the same
    name are another recipe.
    """
    recipe, quick = _base(request), request.quick
    changes = {name: value for name in OVERRIDES if (value := getattr(request, name)) is not None}
    if request.final:
        changes["final"] = True
    if request.sites:
        changes |= {"site": request.sites[0], "sites": list(request.sites)}
    if quick:
        changes = {**QUICK, **changes, "quick": True}
    changes |= _admitted(recipe, request)
    if request.sae is not None:
        named = [str(one) for one in listed(request.sae) or ()]  # a folder may be a Path
        changes["dictionaries"] = [] if named == ["none"] else named
    for name in ("model", "dictionaries") if not weights else ("dictionaries",):
        changes[name] = _absolute(changes.get(name, getattr(recipe, name)))
    known = recipe.methods or [m for m in METHODS if recipe.few_shot or m != FEW_SHOT]
    changes["methods"] = _methods(known, request.methods, quick)
    pinned = pinned_by_content(
        str(changes.get("model", recipe.model)), changes.get("dictionaries", recipe.dictionaries), weights
    )
    changes["files"] = pinned | file_hashes(changes["methods"]) | _data(recipe)
    if FEW_SHOT in changes["methods"] and not recipe.few_shot:
        raise UserError(f"{FEW_SHOT} needs examples, and recipe {recipe.name!r} has no few_shot: leave the method out")
    for method in request.methods or ():
        if parse(method).view == "answer" and not changes.get("question", recipe.question).strip():
            raise UserError(f"{method} asks the model a question about each text: give it with --question")
    changes["contrasts"] = _contrasts(recipe.contrasts or CONTRASTS, known, changes["methods"])
    return validated(recipe.model_copy(update=changes).model_dump(), recipe.name)


def _base(request: CompareRequest) -> Recipe:
    """The recipe that the data stands for, before anything else that is asked for: a file's own, or one by name."""
    what, columns = request.data, (request.text, request.label, request.positive, request.group)
    assert isinstance(what, str | Path), "a table is written to a file first: own.on_disk"
    if is_table(what):
        return own.from_files(
            Path(what),
            [str(shift) for shift in listed(request.shifts) or ()],
            text=request.text or "text",
            label=request.label or "label",
            positive=listed(request.positive),
            group=request.group,
        )
    if any(columns) or request.shifts:
        raise UserError(
            f"--text, --label, --positive, --group and --shift belong to a file of yours, and {str(what)!r} is a recipe"
        )
    return named(what)


def _admitted(recipe: Recipe, request: CompareRequest) -> dict[str, list[float]]:
    """The accuracies wanted of accepted predictions, where there is to be selective prediction."""
    if request.alpha and not (request.admit or recipe.admit):
        raise UserError("--alpha gives the accuracies wanted of accepted predictions: give --admit too")
    return {"admit": list(listed(request.alpha) or recipe.admit or LADDER)} if request.admit or request.alpha else {}


def local_paths(recipe: Recipe) -> dict[str, str]:
    """Paths of this machine that a recipe holds (model, data, dictionaries, method files) and what a Run calls them."""
    named = [recipe.model, *recipe.dictionaries]
    found = [name for name in named if Path(name).is_absolute() or (os.sep in name and Path(name).exists())]
    files = [file_of(method) for method in recipe.methods]
    return shared_names(
        [*found, *(s.file for _, s in recipe.sources() if s.file), *(str(file) for file in files if file is not None)]
    )


def shared_names(paths: Iterable[str]) -> dict[str, str]:
    """Return for each path of this machine the name that a Run writes in its place.

    That is the last component, unless a dictionary or model of ours could have that name.

    >>> shared_names(["/home/me/mine.csv", "/data/shipped"])
    {'/home/me/mine.csv': 'mine.csv', '/data/shipped': './shipped'}
    """
    from theodolite.models.load import SHIPPED

    ours = (*corpus.names(), *SHIPPED, "shipped")
    names = {path: Path(path).name or "root" for path in paths}
    return {path: f"./{name}" if name.startswith(ours) else name for path, name in names.items()}


def default_folder(recipe: BaseRecipe, resolve: Callable[[CompareRequest], BaseRecipe] = resolve) -> Path:
    """Return `runs/NAME` for a shipped recipe as it is, else `runs/NAME-DIGEST`, so that variants never collide.

    The name of a shipped recipe in a folder is written with a hyphen, so that no Run lies in the folder of another:
    `steer/french` runs in `runs/steer-french`. resolve: makes the recipe of a request, for the recipe's kind.
    """
    if recipe.name not in recipe_names(recipe.kind):
        return Path("runs") / f"{slug(recipe.name)}-{recipe.digest()[:8]}"
    flat = recipe.name.replace("/", "-")
    plain = recipe == resolve(CompareRequest(recipe.name))
    return Path("runs") / (flat if plain else f"{slug(flat)}-{recipe.digest()[:8]}")


def is_table(what: str | Path) -> bool:
    """Return whether a name is that of a table of labelled texts, by its ending.

    >>> is_table("Mine.CSV.gz"), is_table("mine.yaml"), is_table("truth")
    (True, False, False)
    """
    return form_of(str(what)) in {form_of(f"x{ending}") for ending in TABLES}


def _absolute(name: Any) -> Any:
    """A path of a model or of dictionaries as an absolute one, so that a Run can be read from another folder."""
    from theodolite.models.load import SHIPPED

    if not isinstance(name, str):
        return [_absolute(one) for one in name]
    path = Path(name).expanduser()
    return str(path.resolve()) if name not in SHIPPED and name != "shipped" and path.exists() else name


def written(what: str | Path) -> Written:
    """Read a shipped recipe or a recipe file of any kind; any other name is an error that says what can be read."""
    path = Path(what)
    if str(what) not in recipe_names() and path.suffix not in {".yaml", ".yml"} and (path.suffix or path.exists()):
        raise UserError(f"cannot read {str(what)!r}: give a recipe name, a .yaml recipe, or a {', '.join(TABLES)} file")
    return read(what)


def named(what: str | Path) -> Recipe:
    """Return the recipe of a comparison, shipped or from a file; one of another kind is refused."""
    return written(what).comparison()


def file_hashes(methods: Sequence[str]) -> dict[str, str]:
    """Content of the user's own method files, so that an edited file is another recipe."""
    found = {}
    for method in filter(is_file, methods):
        path = file_of(method)
        if path is None or not path.is_file():
            raise UserError(f"no file {str(path)!r} for method {method!r}")
        found[method] = file_sha256(path)
        if helpers := helpers_hash(path):
            found[f"{method} (imports)"] = helpers
    return found


def pinned_by_content(model: str, dictionaries: Sequence[str], given: str) -> dict[str, str]:
    """Return hashes of a model and of dictionaries that lie at a path: other weights there are another recipe.

    given: identity of a model that is loaded already, "" without one.
    """
    return _weights(model, given) | _folders([name for name in dictionaries if name != "shipped"])


def _weights(name: str, given: str) -> dict[str, str]:
    """Content of a model that its name does not pin: one handed over (identity `given`), a folder or a .gguf file."""
    from theodolite.models.hashing import folder_hash
    from theodolite.models.load import SHIPPED

    path = Path(name)
    if given:
        return {f"model {name}": given}
    if name in SHIPPED or not path.exists():
        return {}
    if not path.is_dir():
        return {f"model {name}": file_sha256(path)}
    beside = {file for pattern in BESIDE_WEIGHTS for file in path.glob(pattern)}
    return {
        f"model {name}": folder_hash(path),
        f"model {name} (configuration, tokenizer, template)": _files_sha256(path, beside),
    }


def _folders(dictionaries: Sequence[str]) -> dict[str, str]:
    """Content of dictionaries given as folders, and of the controls beside them."""
    folders = {name: Path(name) for name in dictionaries}
    folders |= {f"{name} (control)": control_folder(name) for name in dictionaries}
    return {
        f"dictionary {name}": _files_sha256(path, path.rglob("*")) for name, path in folders.items() if path.is_dir()
    }


def _files_sha256(folder: Path, paths: Iterable[Path]) -> str:
    """One sha256 over the names and contents of the files among these paths in a folder."""
    files = sorted(path for path in paths if path.is_file())
    lines = [f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _data(recipe: Recipe) -> dict[str, str]:
    """Content of data files that no revision pins."""
    names = [s.file for _, s in recipe.sources() if s.file and not s.revision]
    return {f"data {name}": file_sha256(Path(name).expanduser()) for name in names if Path(name).expanduser().is_file()}


def _contrasts(fixed: Sequence[Contrast], known: Sequence[str], chosen: Sequence[str]) -> list[Contrast]:
    """Contrasts whose methods run; one that names no method of the recipe's own list is an error, not a missing row."""
    for method in (m for contrast in fixed for m in (contrast.method, contrast.than)):
        if method not in known and fixed is not CONTRASTS:
            parse(method)
            raise UserError(f"contrast names {method!r}, which is not among the recipe's methods: add it there")
    return [c for c in fixed if {c.method, c.than} <= set(chosen)]


def with_shuffles(methods: Sequence[str]) -> list[str]:
    """The methods, `shuffled_labels` as its ten draws: one alone has no interval worth printing."""
    return [each for method in methods for each in (SHUFFLES if method == "shuffled_labels" else [method])]


def _methods(default: Sequence[str], asked: Sequence[str] | None, quick: bool) -> list[str]:
    """The recipe's methods; files of the user's are added, names of ours replace the list."""
    asked = list(asked or ())
    own = [m for m in asked if is_file(m)]
    named = [m for m in asked if not is_file(m)]
    for method in named:
        parse(method)  # an unknown name is an error now, not after the model was read
    named = with_shuffles(named)
    kept = named or [m for m in default if not (quick and m.startswith(QUICK_LEAVES_OUT))]
    return [*kept, *own]
