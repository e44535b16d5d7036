"""Annotations of Label Studio: its JSON export, one file for many images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weakseg_lightning.data.folder.annotations import LeftOut, Problem, Reading
from weakseg_lightning.data.folder.tools.label_studio_annotation import AnnotationReader, SizeOf, is_shape
from weakseg_lightning.data.folder.tools.label_studio_images import TaskImages, UnknownImageError
from weakseg_lightning.data.folder.tools.shapes import entry_names

Json = Mapping[str, Any]

_LISTS = ("tasks", "results")  # what the answers of its server hold tasks in
_TASK_KEYS = ("annotations", "completions", "predictions", "drafts", "file_upload")


def is_label_studio(content: Any) -> bool:
    """Recognize the content of Label Studio's JSON files: a list of tasks, one task, or an answer of its server."""
    if isinstance(content, list):
        return all(isinstance(task, dict) for task in content)
    if not isinstance(content, dict):
        return False
    is_task = isinstance(content.get("data"), dict) and any(key in content for key in _TASK_KEYS)
    is_annotation = "result" in content and "task" in content
    return is_task or is_annotation or _is_converted(content) or any(_tasks_in(content, key) for key in _LISTS)


def read_label_studio(content: Any, file: str, size_of: SizeOf) -> Iterator[Reading]:
    """Read the content of a file: key points are clicks, rectangles boxes, choices tags; open vectors are strokes.

    Polygons, ellipses, brushes, bitmasks and closed vectors are regions. Of several annotations of a task the one that
    is ground truth counts, otherwise the latest that was not skipped; one without results says that there is nothing.

    Args:
        content: what the JSON holds.
        file: its path, for messages.
        size_of: width and height of an image; for annotations that do not state them.
    """
    if _is_converted(content):
        yield Problem(file, "is an export of Label Studio in another format: export it as JSON")
        return
    tasks = _tasks(content)
    if not tasks:
        yield LeftOut(file, "exports without a task")
    elif not any(isinstance(task.get("data"), dict) for task in tasks):
        yield Problem(file, "has no tasks with `data` and `annotations`: export it as JSON (not JSON-MIN)")
    else:
        yield from _read_tasks(tasks, file, size_of)


# ---- tasks ------------------------------------------------------------------------------------------------------


def _is_converted(content: Any) -> bool:
    """Tell COCO and the notes of YOLO."""
    info = content.get("info") if isinstance(content, dict) else None
    return isinstance(info, dict) and info.get("contributor") == "Label Studio"


def _tasks_in(content: Json, key: str) -> list[Json] | None:
    tasks = content.get(key)
    found = isinstance(tasks, list) and tasks and all(isinstance(t, dict) and "data" in t for t in tasks)
    return tasks if found else None


def _tasks(content: Any) -> list[Json]:
    if isinstance(content, dict):
        content = next((tasks for key in _LISTS if (tasks := _tasks_in(content, key))), [content])
    return [_task(one) for one in content]


def _task(content: Json) -> Json:
    """A task; Label Studio writes an annotation with its task in it to storages."""
    return {**content["task"], "annotations": [content]} if isinstance(content.get("task"), dict) else content


def _read_tasks(tasks: Sequence[Json], file: str, size_of: SizeOf) -> Iterator[Reading]:
    objects = _objects(tasks)
    annotated = {str(task.get("data")) for task in tasks if _chosen(task) is not None}
    entries = entry_names([f"task {task.get('id', number)}" for number, task in enumerate(tasks, start=1)])
    for task, entry in zip(tasks, entries, strict=True):
        if (fault := _task_fault(task)) is not None:
            yield Problem(file, f"{entry} {fault}")
            continue
        images, chosen = TaskImages(task, entry), _chosen(task)
        yield from _left_out(task, chosen, file, entry)
        if chosen is not None:
            yield from AnnotationReader(images, file, size_of).read(_results(chosen), objects)
        else:
            kind = "skipped tasks" if _done(task) else "tasks without an annotation"
            again = str(task["data"]) in annotated
            yield from [LeftOut(file, kind, entry)] if again else _unannotated(images, objects, file, kind)


def _task_fault(task: Json) -> str | None:
    done = _done(task)
    if not isinstance(task.get("data"), dict) or not isinstance(done, list):
        return "has no `data` and `annotations`: export it as JSON (not JSON-MIN)"
    if not all(isinstance(one, dict) and (_is_skipped(one) or _has_results(one)) for one in done):
        return "has annotations without `result`: export them in full"
    return None


def _left_out(task: Json, chosen: Json | None, file: str, entry: str) -> Iterator[LeftOut]:
    """Tell what of a task does not count."""
    for kind in ("predictions", "drafts"):
        if task.get(kind):
            yield LeftOut(file, kind, entry)
    for annotation in _done(task) if chosen is not None else ():
        if annotation is not chosen:
            kind = "skipped annotations" if _is_skipped(annotation) else "earlier annotations of a task"
            yield LeftOut(file, kind, entry)


def _unannotated(images: TaskImages, objects: Sequence[Json], file: str, kind: str) -> list[LeftOut]:
    """Tell which images a task is about that nothing is known of: no other task may be about these."""
    try:
        known = list(images.every(objects))
    except UnknownImageError:
        return [LeftOut(file, kind, images.entry)]
    return [LeftOut(file, kind, entry, about=image, entry=entry) for image, entry in known]


def _objects(tasks: Sequence[Json]) -> list[Json]:
    """A result for each object of the labeling interface that has shapes."""
    shapes = [result for task in tasks for result in _results(_chosen(task)) if is_shape(result)]
    return list({(str(one.get("source")), str(one.get("to_name"))): one for one in shapes}.values())


def _done(task: Json) -> Any:
    """The annotations of a task, called completions before Label Studio 1.0."""
    return task.get("annotations", task.get("completions", []))


def _has_results(annotation: Json) -> bool:
    return isinstance(annotation.get("result"), list) or annotation.get("result") == {}


def _is_skipped(annotation: Json) -> bool:
    return bool(annotation.get("was_cancelled") or annotation.get("skipped"))


def _chosen(task: Json) -> Json | None:
    """The annotation of a task that counts; None if there is none."""
    done = _done(task) if isinstance(_done(task), list) else []
    finished = [one for one in done if isinstance(one, dict) and not _is_skipped(one)]
    finished = [one for one in finished if one.get("ground_truth")] or finished
    times = [one.get("updated_at") or one.get("created_at") for one in finished]
    if all(isinstance(time, str) for time in times):
        finished = [one for _, one in sorted(zip(times, finished, strict=True), key=lambda pair: str(pair[0]))]
    return finished[-1] if finished else None


def _results(annotation: Json | None) -> list[Any]:
    results = annotation.get("result") if annotation is not None else None
    return results if isinstance(results, list) else []
