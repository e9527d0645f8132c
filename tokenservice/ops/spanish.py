"""The texts of the probes and the pages in the OpenAPI document, English to Spanish."""

from __future__ import annotations

from collections.abc import Mapping

DOCUMENT: Mapping[str, str] = {
    "Probes, metrics and pages": "Sondas, métricas y páginas",
    "Read this document": "Leer este documento",
    "Its paths are those that the caller sees, behind a proxy with a prefix too.": (
        "Sus rutas son las que ve quien llama, también tras un proxy con prefijo."
    ),
    "Explain one problem code, in the reader's language": (
        "Explicar el código de un problema, en el idioma de quien lee"
    ),
    (
        "The member ``type`` of each problem leads here. To a program, an unknown code is a "
        "problem."
    ): (
        "El miembro ``type`` de cada problema lleva aquí. Para un programa, un código "
        "desconocido es un problema."
    ),
    "List the problems, in the reader's language": (
        "Listar los problemas, en el idioma de quien lee"
    ),
    "By their codes, with the status of each.": "Por sus códigos, con el estado HTTP de cada uno.",
    "Tell that the process is alive": "Decir que el proceso vive",
    "Nothing else is checked.": "No se comprueba nada más.",
    "Tell whether to send requests here": "Decir si se pueden enviar peticiones aquí",
    (
        "One store alone serves much, and all instances miss it alike.\n\n"
        "The response names each part and its state; the cause of a failure is for the log alone."
    ): (
        "Con un solo almacén se sirve mucho, y a todas las instancias les falta el mismo.\n\n"
        "La respuesta nombra cada parte y su estado; la causa de un fallo es solo para el registro."
    ),
    "Tell whether Postgres is as it should be": "Decir si Postgres está como debe",
    "Tell whether Redis is as it should be": "Decir si Redis está como debe",
    "For the alarm about it.": "Para su alarma.",
    "Read the metrics, in the format of Prometheus": (
        "Leer las métricas, en el formato de Prometheus"
    ),
    "Open to the bearer of ``metrics_token`` where one is set, else to loopback only.": (
        "Abiertas a quien envíe ``metrics_token`` si está puesto; si no, solo al propio equipo."
    ),
    "the state of each part, by its name": "el estado de cada parte, por su nombre",
}
