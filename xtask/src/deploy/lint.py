"""Checks a file of Compose and one of Kubernetes: lint.py COMPOSE KUBERNETES.

Prints a line for each problem, and exits with 1 if there is any. The schemas are part of the packages.
"""

import sys

import kubernetes_validate
import yaml
from compose_spec import PyOptions

# What every container of Kubernetes needs.
HARDENING = {
    "securityContext.allowPrivilegeEscalation": False,
    "securityContext.readOnlyRootFilesystem": True,
    "securityContext.capabilities.drop": ["ALL"],
}


def compose_problems(text):
    options = PyOptions()
    options.apply_merge = True
    try:
        options.from_yaml(text).validate()
    except ValueError as error:
        yield str(error)
        return
    # The package checks no references to services and volumes.
    file = yaml.safe_load(text)
    services = file["services"]
    built = {service["image"] for service in services.values() if "build" in service}
    for name, service in services.items():
        for other in service.get("depends_on", []):
            if other not in services:
                yield f"services.{name}.depends_on: found {other}, expected one of {', '.join(services)}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if "/" not in source and source not in file.get("volumes", {}):
                yield f"services.{name}.volumes: found {source}, which is not in volumes"
        if service.get("cap_drop") != ["ALL"]:
            yield f"services.{name}.cap_drop: found {service.get('cap_drop')}, expected [ALL]"
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"services.{name}.security_opt: expected no-new-privileges:true"
        if not is_version(service["image"]) and service["image"] not in built:
            yield f"services.{name}.image: found {service['image']}, expected a version"


def is_version(image):
    return ":" in image and not image.endswith(":latest")


def value_at(container, path):
    for key in path.split("."):
        container = (container or {}).get(key)
    return container


def kubernetes_problems(text):
    for resource in yaml.safe_load_all(text):
        place = f"{resource.get('kind')} {value_at(resource, 'metadata.name')}"
        try:
            kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{place}: {'.'.join(str(key) for key in error.path)}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{place}: {error}"
        if resource.get("kind") == "Deployment":
            yield from (f"{place}: {problem}" for problem in pod_problems(resource["spec"]["template"]["spec"]))


def pod_problems(pod):
    if value_at(pod, "securityContext.runAsNonRoot") is not True:
        yield "securityContext.runAsNonRoot: expected true"
    if value_at(pod, "securityContext.seccompProfile.type") != "RuntimeDefault":
        yield "securityContext.seccompProfile.type: expected RuntimeDefault"
    for container in pod["containers"]:
        name = container["name"]
        for path, expected in HARDENING.items():
            found = value_at(container, path)
            if found != expected:
                yield f"{name}.{path}: found {found}, expected {expected}"
        for key in ("readinessProbe", "livenessProbe", "resources"):
            if key not in container:
                yield f"{name}: found no {key}"
        if not is_version(container["image"]):
            yield f"{name}.image: found {container['image']}, expected a version"


def main():
    count = 0
    for path, problems in zip(sys.argv[1:], (compose_problems, kubernetes_problems), strict=True):
        with open(path, encoding="utf-8") as file:
            for problem in problems(file.read()):
                print(f"{path}: {problem}")
                count += 1
    sys.exit(1 if count else 0)


main()
