"""Whether a machine is what its spec says, and what its user has to do if not. Pure."""

from vcstack.nodeagent.backends.hypervisor import Domain
from vcstack.nodeagent.fields import digest_fields, list_changed
from vcstack.nodeagent.realizers.interfaces import Network
from vcstack.nodeagent.realizers.report import Report
from vcstack.nodeagent.record import Record
from vcstack.specs.kinds.instance import UP_TO_DATE, Instance
from vcstack.specs.model import Change


def report_pending(report: Report, instance: Instance, domain: Domain, network: Network, record: Record | None) -> None:
    """Note in UpToDate which changes of spec wait for a reboot or to be recreated."""
    recreate = list_changed(record.fields, digest_fields(instance.spec, Change.RECREATE)) if record else []
    reboot = list_reboot(instance, domain, network)
    also = f" (and for a reboot: {', '.join(reboot)})" if reboot else ""
    if recreate:
        message = (
            f"Changed, but in force only when the instance is recreated, which gives up its root disk: "
            f"{', '.join(recreate)}{also}. Run: vcctl rebuild {instance.metadata.name}"
        )
        report.set(UP_TO_DATE, False, "RecreateRequired", message)
    elif reboot:
        message = f"Changed, but in force only after a reboot: {', '.join(reboot)}. Run: vcctl reboot "
        report.set(UP_TO_DATE, False, "RebootRequired", f"{message}{instance.metadata.name}")
    else:
        report.set(UP_TO_DATE, True, "UpToDate")


def list_reboot(instance: Instance, domain: Domain, network: Network) -> list[str]:
    """Return the names of what a running machine was not built from; a stopped one is built at its start."""
    if not domain.active:
        return []
    built = domain.running_from.reboot_fields if domain.running_from else {}
    changed = list_changed(built, digest_fields(instance.spec, Change.REBOOT))
    live = {i.mac: i.mtu for i in domain.interfaces}
    changed += [
        f"mtuBytes of {plug.port.spec.network}"
        for plug in network.plugs
        if plug.card.mac in live and live[plug.card.mac] != plug.card.mtu
    ]
    return changed
