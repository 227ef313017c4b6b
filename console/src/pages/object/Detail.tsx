import { useQuery } from "@tanstack/react-query";
import { FileX, Trash2 } from "lucide-react";
import { Tabs } from "radix-ui";
import { type ReactNode, useState } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import { collectionPath, type KindInfo, kindsQuery, listLink, objectLink, useKind, vcctl } from "~/api/kinds";
import { useLiveObject } from "~/api/lists";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { ReadyBadge } from "~/components/ReadyBadge";
import { TabList } from "~/components/TabList";
import { useWords } from "~/i18n/language";
import { ChangeLinks } from "./ChangeLinks";
import { DeleteDialog, Deleting } from "./Delete";
import { Events } from "./Events";
import { History } from "./History";
import { OneTimeSecret } from "./OneTimeSecret";
import { Overview } from "./Overview";
import { Related } from "./Related";
import { words } from "./words";
import { Yaml } from "./Yaml";

const TABS = ["overview", "related", "events", "yaml", "history"] as const;

/** The page of one object of any kind. */
export function Component() {
  const say = useWords(words);
  const { plural = "", project, name = "" } = useParams();
  const kinds = useQuery(kindsQuery);
  const kind = useKind(plural);
  if (kinds.isPending) return <Busy />;
  if (kinds.error) return <Failure error={kinds.error} onRetry={() => void kinds.refetch()} />;
  if (!kind) return <EmptyState icon={<FileX aria-hidden />} title={say("noSuchKind")} />;
  return <ObjectPage key={`${project}/${plural}/${name}`} kind={kind} project={project ?? null} name={name} />;
}

function ObjectPage({ kind, project, name }: { kind: KindInfo; project: string | null; name: string }) {
  const say = useWords(words);
  const { object, loading, gone, error } = useLiveObject(collectionPath(kind.plural, project), name);
  const [search, setSearch] = useSearchParams();
  const [deleting, setDeleting] = useState(false);
  const tab = TABS.find((each) => each === search.get("tab")) ?? "overview";
  if (loading) return <Busy />;
  if (gone || !object) {
    if (error && !gone) return <Failure error={error} />;
    return <Gone kind={kind} project={project} name={name} />;
  }
  const link = objectLink(kind.plural, project, name);
  const where = project ? ["-p", project] : [];
  const writable = kind.verbs.includes("update") && !object.metadata.deletionTimestamp;
  const show = (next: string) =>
    setSearch(
      (before) => {
        if (next === "overview") before.delete("tab");
        else before.set("tab", next);
        return before;
      },
      { replace: true },
    );
  return (
    <div className="flex flex-col">
      <header className="flex flex-wrap items-center gap-2 border-line border-b bg-surface px-3 py-2">
        <h1 className="flex min-w-0 flex-1 basis-full items-center sm:basis-0 gap-2 font-semibold text-base">
          <Link to={listLink(kind.plural, project)} className="text-quiet hover:underline">
            {kind.kind}
          </Link>
          <span className="min-w-0 break-all">{name}</span>
          <ReadyBadge object={object} />
        </h1>
        <CopyButton text={vcctl("describe", `${kind.singular}/${name}`, ...where)} command />
        <ChangeLinks link={link} writable={writable} />
        {writable ? <OneTimeSecret kind={kind} object={object} /> : null}
        {kind.verbs.includes("delete") && !object.metadata.deletionTimestamp ? (
          <Button look="danger" onClick={() => setDeleting(true)}>
            <Trash2 aria-hidden />
            {say("delete")}
          </Button>
        ) : null}
      </header>
      {object.metadata.deletionTimestamp ? <Deleting object={object} /> : null}
      <Sections tab={tab} onTab={show}>
        {{
          overview: <Overview kind={kind} object={object} />,
          related: <Related kind={kind} object={object} />,
          events: <Events object={object} />,
          yaml: <Yaml object={object} />,
          history: <History kind={kind} object={object} />,
        }}
      </Sections>
      {deleting ? <DeleteDialog kind={kind} object={object} onClose={() => setDeleting(false)} /> : null}
    </div>
  );
}

interface SectionsProps {
  tab: (typeof TABS)[number];
  onTab: (tab: string) => void;
  children: Record<(typeof TABS)[number], ReactNode>;
}

function Sections({ tab, onTab, children }: SectionsProps) {
  const say = useWords(words);
  return (
    <Tabs.Root value={tab} onValueChange={onTab}>
      <TabList label={say("sections")} tabs={TABS} active={tab} say={say} className="bg-surface px-2" />
      {TABS.map((each) => (
        <Tabs.Content key={each} value={each} className="p-3">
          {each === tab ? children[each] : null}
        </Tabs.Content>
      ))}
    </Tabs.Root>
  );
}

function Gone({ kind, project, name }: { kind: KindInfo; project: string | null; name: string }) {
  const say = useWords(words);
  return (
    <EmptyState
      icon={<FileX aria-hidden />}
      title={say("goneTitle", { kind: kind.kind, name })}
      actions={
        <>
          <Button asChild>
            <Link to={listLink(kind.plural, project)}>{say("toList", { kind: kind.kind })}</Link>
          </Button>
          <Button asChild>
            <Link to={`${objectLink(kind.plural, project, name)}/timeline`}>{say("bringBack")}</Link>
          </Button>
        </>
      }
    >
      {say("goneText")}
    </EmptyState>
  );
}
