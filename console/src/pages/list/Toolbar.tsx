import { Columns3, Download, Plus, X } from "lucide-react";
import { memo } from "react";
import { Link } from "react-router";
import { messageOf } from "~/api/client";
import { type KindInfo, listLink, vcctl } from "~/api/kinds";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { classes } from "~/components/classes";
import { INPUT, Input } from "~/components/Field";
import { Menu, MenuItem } from "~/components/Menu";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { BulkActions } from "./BulkActions";
import type { ListColumn } from "./columns";
import { download, type Format, write } from "./export";
import type { Row } from "./rows";
import type { ListState } from "./state";
import { words } from "./words";

interface ToolbarProps {
  kind: KindInfo;
  project: string | null;
  complete: boolean;
  total: number;
  /** Whether the API said at all what there is. */
  isKnown: boolean;
  /** How many rows there are as they are filtered. */
  shown: number;
  text: string;
  label: string;
  condition: string;
  wide: boolean;
  change: (changes: Partial<ListState>) => void;
  getRows: () => Row[];
  columns: readonly ListColumn[];
  conditions: string[];
  selected: ReadonlySet<string>;
  onSelect: (selected: ReadonlySet<string>) => void;
}

/** What stands above a list: filters, what to do with what is selected, export. Not drawn anew with each change of a row. */
export const Toolbar = memo((props: ToolbarProps) => {
  const { kind, project, text, label, condition, wide, change, getRows, columns, conditions, selected, onSelect } =
    props;
  const say = useWords(words);
  const getChosen = () => (selected.size > 0 ? getRows().filter(({ id }) => selected.has(id)) : getRows());
  const exportAs = (format: Format) => () =>
    void write(getChosen(), columns, format).then(
      (text) => download(`${kind.plural}.${format}`, text),
      (error) => toast("bad", messageOf(error)),
    );
  const where = project ? ["--project", project] : kind.scope === "Global" ? [] : ["--all-projects"];
  const command = vcctl("get", kind.plural, ...where, ...(label ? ["-l", label] : []));
  return (
    <div className="flex flex-wrap items-center gap-2 border-line border-b bg-surface px-3 py-2">
      <h1 className="mr-1 font-semibold text-base">{kind.kind}</h1>
      <span className="text-quiet" role="status">
        {props.isKnown
          ? say(props.complete ? "count" : "loadingMore", { shown: props.shown, total: props.total })
          : null}
      </span>
      <div className="flex-1" />
      <Input
        type="search"
        aria-label={say("find")}
        placeholder={say("find")}
        data-find
        className="w-44"
        value={text}
        onChange={(event) => change({ text: event.target.value })}
      />
      <LabelFilter key={label} value={label} onChange={(after) => change({ label: after })} />
      {conditions.length > 0 || condition ? (
        <select
          aria-label={say("condition")}
          className={classes(INPUT, "w-40")}
          value={condition}
          onChange={(event) => change({ condition: event.target.value })}
        >
          <option value="">{say("anyCondition")}</option>
          {[...new Set([...conditions, ...(condition ? [condition] : [])])].map((each) => (
            <option key={each} value={each}>
              {each === "Deleting" ? say("deleting") : each.replace(":", ": ")}
            </option>
          ))}
        </select>
      ) : null}
      {columns.some(({ wide }) => wide) ? (
        <Button
          look={wide ? "plain" : "quiet"}
          icon
          aria-label={say("wide")}
          title={say("wide")}
          aria-pressed={wide}
          onClick={() => change({ wide: !wide })}
        >
          <Columns3 aria-hidden />
        </Button>
      ) : null}
      <Menu
        trigger={
          <Button look="quiet" icon aria-label={say("export")} title={say("export")}>
            <Download aria-hidden />
          </Button>
        }
      >
        <MenuItem onSelect={exportAs("csv")}>{say("exportCsv")}</MenuItem>
        <MenuItem onSelect={exportAs("json")}>{say("exportJson")}</MenuItem>
        <MenuItem onSelect={exportAs("yaml")}>{say("exportYaml")}</MenuItem>
      </Menu>
      <CopyButton text={command} command />
      {kind.verbs.includes("create") && (project || kind.scope !== "Project") ? (
        <Button look="primary" asChild>
          <Link to={`${listLink(kind.plural, project)}/_new`}>
            <Plus aria-hidden />
            {say("new")}
          </Link>
        </Button>
      ) : null}
      {selected.size > 0 ? (
        <div className="flex w-full flex-wrap items-center gap-2 rounded-md bg-info-ground px-2 py-1">
          <span className="font-medium">{say("selected", { count: selected.size })}</span>
          <div className="flex-1" />
          <BulkActions
            kind={kind}
            getObjects={() => getChosen().map(({ object }) => object)}
            onDone={() => onSelect(new Set())}
          />
          <Button look="quiet" icon aria-label={say("unselect")} onClick={() => onSelect(new Set())}>
            <X aria-hidden />
          </Button>
        </div>
      ) : null}
    </div>
  );
});
Toolbar.displayName = "Toolbar";

/** The labels go to the API when they were typed, not with each letter. */
function LabelFilter({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const say = useWords(words);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onChange(String(new FormData(event.currentTarget).get("label") ?? "").trim());
      }}
    >
      <Input
        type="search"
        name="label"
        aria-label={say("label")}
        placeholder={say("label")}
        className="w-52"
        defaultValue={value}
        spellCheck={false}
        onBlur={(event) => {
          if (event.target.value.trim() !== value) onChange(event.target.value.trim());
        }}
      />
    </form>
  );
}
