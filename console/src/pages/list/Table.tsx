import {
  createColumnHelper,
  flexRender,
  getCoreRowModel,
  type Row as TableRow,
  useReactTable,
} from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { ArrowDown, ArrowUp } from "lucide-react";
import { type CSSProperties, memo, useMemo, useRef } from "react";
import { Link } from "react-router";
import { type KindInfo, linkOf } from "~/api/kinds";
import { Age } from "~/components/Age";
import { classes } from "~/components/classes";
import { ReadyBadge } from "~/components/ReadyBadge";
import { type Say, useWords } from "~/i18n/language";
import type { ListColumn } from "./columns";
import type { Row } from "./rows";
import { words } from "./words";

const ROW_HEIGHT = 37;

interface TableProps {
  kind: KindInfo;
  rows: Row[];
  columns: readonly ListColumn[];
  withProject: boolean;
  hasReady: boolean;
  wide: boolean;
  sort: string;
  onSort: (sort: string) => void;
  selected: ReadonlySet<string>;
  onSelect: (change: (selected: ReadonlySet<string>) => ReadonlySet<string>) => void;
}

const helper = createColumnHelper<Row>();

interface Shown {
  /** The width as CSS takes it. */
  width: string;
  /** Whether it is left out on a phone. */
  roomy?: boolean;
}
const SELECT = "select";
const SHOWN = new Map<string, Shown>([
  [SELECT, { width: "2.25rem" }],
  ["name", { width: "minmax(8rem,2.2fr)" }],
  ["project", { width: "minmax(7rem,1fr)", roomy: true }],
  ["ready", { width: "minmax(6rem,1fr)" }],
  ["age", { width: "4rem", roomy: true }],
]);
const shownOf = (id: string): Shown => SHOWN.get(id) ?? { width: "minmax(7.5rem,1.3fr)", roomy: true };

/** What is in each column; the boxes to select with are drawn by the table itself, for they change. */
function useColumns({ kind, columns, withProject, hasReady, wide }: TableProps, say: Say<string>) {
  return useMemo(() => {
    const own = columns.flatMap((column, index) =>
      column.wide && !wide
        ? []
        : [
            helper.display({
              id: column.id,
              header: column.name,
              cell: ({ row: { original } }) =>
                column.type === "date" ? (
                  <Age of={original.texts[index]} />
                ) : (
                  <Cut text={original.texts[index] ?? ""} />
                ),
            }),
          ],
    );
    return [
      helper.display({ id: SELECT }),
      helper.display({
        id: "name",
        header: say("name"),
        cell: ({ row: { original } }) => (
          <Link to={linkOf(kind, original.object)} className="truncate font-medium text-accent hover:underline">
            {original.object.metadata.name}
          </Link>
        ),
      }),
      ...(withProject
        ? [
            helper.display({
              id: "project",
              header: say("project"),
              cell: ({ row }) => <Cut text={row.original.object.metadata.project ?? ""} />,
            }),
          ]
        : []),
      ...(hasReady
        ? [
            helper.display({
              id: "ready",
              header: say("ready"),
              cell: ({ row }) => <ReadyBadge object={row.original.object} />,
            }),
          ]
        : []),
      ...own,
      helper.display({
        id: "age",
        header: say("age"),
        cell: ({ row }) => <Age of={row.original.object.metadata.creationTimestamp} />,
      }),
    ];
  }, [kind, columns, withProject, hasReady, wide, say]);
}

const Cut = ({ text }: { text: string }) => (
  <span className="truncate" title={text}>
    {text}
  </span>
);

/** A table of any length: only the rows in sight are in the page. */
export function Table(props: TableProps) {
  const { kind, rows, sort, onSort, selected, onSelect } = props;
  const say = useWords(words);
  const columns = useColumns(props, say as Say<string>);
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 8,
  });
  const inSight = virtual.getVirtualItems();
  const from = inSight[0]?.index ?? 0;
  const to = from + inSight.length;
  // The table knows the rows in sight only: a model of ten thousand would be made anew with each change.
  const data = useMemo(() => rows.slice(from, to), [rows, from, to]);
  const table = useReactTable({ data, columns, getCoreRowModel: getCoreRowModel(), getRowId: (row) => row.id });
  const model = table.getRowModel().rows;
  const ids = columns.map(({ id }) => id as string);
  const style = {
    "--columns": ids.map((id) => shownOf(id).width).join(" "),
    "--narrow": ids
      .filter((id) => !shownOf(id).roomy)
      .map((id) => shownOf(id).width)
      .join(" "),
  } as CSSProperties;
  const line = "grid grid-cols-[var(--narrow)] items-center gap-x-3 px-3 sm:grid-cols-[var(--columns)]";
  const sortedBy = sort.replace(/^-/, "");
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached with the keyboard (WCAG 2.1.1)
    <div ref={scroller} style={style} tabIndex={0} className="min-h-0 flex-1 overflow-auto" data-testid="scroller">
      {/* biome-ignore lint/a11y/useSemanticElements: rows are placed by hand, which a table's do not allow */}
      <div role="table" aria-label={kind.kind} aria-rowcount={rows.length + 1} className="sm:min-w-max lg:min-w-0">
        {/* biome-ignore lint/a11y/useSemanticElements: as above */}
        <div
          role="row"
          aria-rowindex={1}
          tabIndex={-1}
          className={classes(line, "sticky top-0 z-10 h-9 border-line border-b bg-raised")}
        >
          {table.getFlatHeaders().map(({ id, column, getContext }) => (
            // biome-ignore lint/a11y/useSemanticElements: as above
            <div
              key={id}
              role="columnheader"
              tabIndex={-1}
              aria-sort={sortedBy === id ? (sort.startsWith("-") ? "descending" : "ascending") : undefined}
              className={classes("min-w-0 font-semibold text-xs", shownOf(id).roomy && "max-sm:hidden")}
            >
              {id === SELECT ? (
                <input
                  type="checkbox"
                  aria-label={say("selectAll")}
                  checked={rows.length > 0 && selected.size >= rows.length}
                  onChange={({ target }) => onSelect(() => new Set(target.checked ? rows.map((row) => row.id) : []))}
                />
              ) : (
                <button
                  type="button"
                  className="inline-flex max-w-full cursor-pointer items-center gap-1 truncate"
                  onClick={() => onSort(sort === id ? `-${id}` : id)}
                >
                  {flexRender(column.columnDef.header, getContext())}
                  {sortedBy === id ? (
                    sort.startsWith("-") ? (
                      <ArrowDown aria-hidden className="size-3" />
                    ) : (
                      <ArrowUp aria-hidden className="size-3" />
                    )
                  ) : null}
                </button>
              )}
            </div>
          ))}
        </div>
        <div role="presentation" className="relative" style={{ height: virtual.getTotalSize() }}>
          {inSight.map((item, at) => {
            const row = model[at];
            return row ? (
              <Line
                key={row.id}
                row={row}
                columns={columns}
                index={item.index}
                start={item.start}
                selected={selected.has(row.id)}
                onSelect={onSelect}
                className={line}
              />
            ) : null;
          })}
        </div>
      </div>
    </div>
  );
}

interface LineProps {
  row: TableRow<Row>;
  columns: unknown;
  index: number;
  start: number;
  selected: boolean;
  onSelect: TableProps["onSelect"];
  className: string;
}

function toggled(selected: ReadonlySet<string>, id: string): ReadonlySet<string> {
  const after = new Set(selected);
  if (!after.delete(id)) after.add(id);
  return after;
}

/** One row; drawn anew only when something of it changed, not because others came into sight. */
const Line = memo(
  ({ row, index, start, selected, onSelect, className }: LineProps) => {
    const say = useWords(words);
    return (
      // biome-ignore lint/a11y/useSemanticElements: rows are placed by hand, which a table's do not allow
      <div
        role="row"
        tabIndex={-1}
        aria-rowindex={index + 2}
        style={{ height: ROW_HEIGHT, transform: `translateY(${start}px)` }}
        className={classes(
          className,
          "absolute inset-x-0 top-0 border-line border-b bg-surface hover:bg-raised",
          selected && "bg-info-ground",
        )}
      >
        {row.getVisibleCells().map((cell) => (
          // biome-ignore lint/a11y/useSemanticElements: as above
          <div
            key={cell.id}
            role="cell"
            className={classes("flex min-w-0 items-center", shownOf(cell.column.id).roomy && "max-sm:hidden")}
          >
            {cell.column.id === SELECT ? (
              <input
                type="checkbox"
                aria-label={say("select", { name: row.original.object.metadata.name })}
                checked={selected}
                onChange={() => onSelect((before) => toggled(before, row.id))}
              />
            ) : (
              flexRender(cell.column.columnDef.cell, cell.getContext())
            )}
          </div>
        ))}
      </div>
    );
  },
  (before, after) =>
    before.row.original === after.row.original &&
    before.columns === after.columns &&
    before.start === after.start &&
    before.selected === after.selected,
);
Line.displayName = "Line";
