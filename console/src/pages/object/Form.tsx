import { useQuery } from "@tanstack/react-query";
import { Plus, Trash2 } from "lucide-react";
import { createContext, type ReactNode, useContext, useId, useState } from "react";
import { type KindInfo, useKinds } from "~/api/kinds";
import { Button } from "~/components/Button";
import { type ControlProps, Field, INPUT, Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import {
  childOf,
  defaultsBy,
  fieldOf,
  given,
  isStandIn,
  type JsonSchema,
  type Path,
  plain,
  type Takes,
  valuesOf,
} from "~/schema/schema";
import { namesOf } from "./plan";
import { words } from "./words";

interface FormContext {
  root: JsonSchema;
  project: string | null;
  isNew: boolean;
  change: (path: Path, value: unknown) => void;
  /** Somebody was at the field, and is no more. */
  leave: (path: Path) => void;
  /** What is wrong, by field. */
  errors: ReadonlyMap<string, string>;
}

const Context = createContext<FormContext | null>(null);

function useForm(): FormContext {
  const found = useContext(Context);
  if (!found) throw new Error("a field stands in a form");
  return found;
}

interface FormProps extends FormContext {
  kind: KindInfo;
  value: Record<string, unknown>;
}

/** A form for any kind, made from its schema: name, project and labels, then all that spec has. */
export function Form({ kind, value, ...context }: FormProps) {
  const say = useWords(words);
  const { root, isNew } = context;
  const metadata = asMap(value.metadata);
  const top = plain(root, root);
  const spec = childOf(top, "spec", root) ?? {};
  const meta = childOf(top, "metadata", root) ?? {};
  return (
    <Context.Provider value={context}>
      <form className="flex flex-col gap-4 p-3" onSubmit={(event) => event.preventDefault()} aria-label={say("form")}>
        <SchemaField
          schema={childOf(meta, "name", root) ?? { type: "string" }}
          name={say("name")}
          path={["metadata", "name"]}
          value={metadata.name}
          isRequired
          isFixed={!isNew}
        />
        {kind.scope !== "Global" && metadata.project ? (
          <SchemaField
            schema={{ type: "string" }}
            name={say("project")}
            path={["metadata", "project"]}
            value={metadata.project}
            isRequired
            isFixed
          />
        ) : null}
        <ObjectFields schema={spec} path={["spec"]} value={value.spec} />
        <Group title={say("labels")}>
          <MapFields schema={{ type: "string" }} path={["metadata", "labels"]} value={metadata.labels} />
        </Group>
      </form>
    </Context.Provider>
  );
}

function ObjectFields({ schema, path, value }: { schema: JsonSchema; path: Path; value: unknown }) {
  const say = useWords(words);
  const { root, errors, change } = useForm();
  const has = asMap(value);
  const fields = Object.entries(given(schema, value).properties ?? {}).map(([name, raw]) => ({
    name,
    schema: plain(raw, root),
  }));
  const required = new Set(schema.required ?? []);
  const isShown = (name: string) =>
    required.has(name) ||
    has[name] !== undefined ||
    fields.length <= 8 ||
    [...errors.keys()].some((field) => field.startsWith(fieldOf([...path, name])));
  const render = ({ name, schema: field }: { name: string; schema: JsonSchema }) => (
    <SchemaField
      key={name}
      schema={field}
      name={name}
      path={[...path, name]}
      value={has[name]}
      isRequired={required.has(name)}
      onChosen={(to) => {
        for (const [other, value] of defaultsBy(schema, name, to)) change([...path, other], value);
      }}
    />
  );
  const rest = fields.filter(({ name }) => !isShown(name));
  return (
    <>
      {fields.filter(({ name }) => isShown(name)).map(render)}
      {rest.length > 0 ? (
        <details className="rounded-md border border-line">
          <summary className="cursor-pointer px-3 py-2 font-medium">{`${say("optional")} (${rest.length})`}</summary>
          <div className="flex flex-col gap-4 p-3">{rest.map(render)}</div>
        </details>
      ) : null}
    </>
  );
}

interface SchemaFieldProps {
  schema: JsonSchema;
  name: string;
  path: Path;
  value: unknown;
  isRequired?: boolean;
  isFixed?: boolean;
  /** When one of several was chosen. */
  onChosen?: (to: unknown) => void;
}

function SchemaField(props: SchemaFieldProps) {
  const { schema, name, path, value, isRequired = false } = props;
  const { root, errors, isNew, leave } = useForm();
  const say = useWords(words);
  const inner = schema.items && plain(schema.items, root);
  const help = [schema.description, takesNote(schema["x-vcstack-takes"], isNew, say)].filter(Boolean).join(" ");
  if (schema.type === "array" && inner)
    return (
      <Group title={name} help={help} error={errors.get(fieldOf(path))}>
        <ListFields name={name} inner={inner} path={path} value={value} />
      </Group>
    );
  if (schema.properties)
    return (
      <Group title={name} help={help} error={errors.get(fieldOf(path))}>
        <ObjectFields schema={schema} path={path} value={value} />
      </Group>
    );
  const values = valuesOf(schema);
  if (values)
    return (
      <Group title={name} help={help} error={errors.get(fieldOf(path))}>
        <MapFields schema={plain(values, root)} path={path} value={value} />
      </Group>
    );
  return (
    <Field
      label={
        <>
          <span className="font-mono text-[13px]">{name}</span>
          {isRequired ? <span className="text-bad">{" *"}</span> : null}
        </>
      }
      help={help}
      error={errors.get(fieldOf(path))}
      onBlur={() => leave(path)}
    >
      {(control) => <Control {...props} control={control} />}
    </Field>
  );
}

function Control(props: SchemaFieldProps & { control: ControlProps }) {
  const { schema, path, value, isRequired, isFixed, onChosen, control } = props;
  const say = useWords(words);
  const { change } = useForm();
  const set = (text: string) => change(path, text === "" ? undefined : text);
  const fallback =
    schema.default !== undefined && schema.default !== null && schema.default !== ""
      ? say("default", { value: String(schema.default) })
      : "";
  if (schema["x-vcstack-sensitive"]) return <Secret path={path} value={value} control={control} />;
  if (schema["x-vcstack-refers-to"])
    return <Reference kind={schema["x-vcstack-refers-to"]} path={path} value={value} control={control} />;
  if (schema.enum || schema.type === "boolean") {
    const choices = schema.enum ?? [true, false];
    return (
      <select
        {...control}
        className={INPUT}
        value={value === undefined || value === null ? "" : String(value)}
        onChange={({ target }) => {
          const to = choices.find((choice) => String(choice) === target.value);
          change(path, to);
          onChosen?.(to);
        }}
      >
        {isRequired && value !== undefined ? null : <option value="">{fallback || say("none")}</option>}
        {choices.map((choice) => (
          <option key={String(choice)} value={String(choice)}>
            {String(choice)}
          </option>
        ))}
      </select>
    );
  }
  if (schema.type === "integer" || schema.type === "number")
    return (
      <Input
        {...control}
        type="number"
        inputMode="numeric"
        placeholder={fallback}
        {...(schema.minimum === undefined ? {} : { min: schema.minimum })}
        {...(schema.maximum === undefined ? {} : { max: schema.maximum })}
        value={typeof value === "number" ? value : ""}
        onChange={({ target }) => change(path, target.value === "" ? undefined : Number(target.value))}
      />
    );
  const text = value === undefined || value === null ? "" : String(value);
  if (
    text.includes("\n") ||
    path.at(-1) === "userData" ||
    (schema.type === "string" && !schema.maxLength && !schema.format && schema.pattern)
  )
    return (
      <textarea
        {...control}
        rows={Math.min(12, Math.max(2, text.split("\n").length))}
        spellCheck={false}
        className={`${INPUT} font-mono`}
        value={text}
        onChange={({ target }) => set(target.value)}
      />
    );
  return (
    <Input
      {...control}
      spellCheck={false}
      autoComplete="off"
      placeholder={schema.format === "date-time" ? "2026-12-31T23:59:59Z" : fallback}
      readOnly={isFixed}
      required={isRequired}
      className={isFixed ? "bg-raised text-quiet" : ""}
      value={text}
      onChange={({ target }) => set(target.value)}
    />
  );
}

/** Written, never read: what is set is only said to be. */
function Secret({ path, value, control }: { path: Path; value: unknown; control: ControlProps }) {
  const say = useWords(words);
  const { change } = useForm();
  const [stood] = useState(() => (isStandIn(value) ? value : undefined));
  if (isStandIn(value))
    return (
      <div className="flex flex-wrap items-center gap-2">
        <span className="text-quiet">{say("secretSet")}</span>
        <Button id={control.id} onClick={() => change(path, "")}>
          {say("replaceSecret")}
        </Button>
      </div>
    );
  return (
    <div className="flex gap-2">
      <Input
        {...control}
        type="password"
        autoComplete="new-password"
        value={typeof value === "string" ? value : ""}
        onChange={({ target }) => change(path, target.value)}
      />
      {stood === undefined ? null : <Button onClick={() => change(path, stood)}>{say("cancel")}</Button>}
    </div>
  );
}

/** A name of another object: those that are there are offered, others can be typed. */
function Reference({
  kind,
  path,
  value,
  control,
}: {
  kind: string;
  path: Path;
  value: unknown;
  control: ControlProps;
}) {
  const say = useWords(words);
  const { change, project } = useForm();
  const kinds = useKinds();
  const list = useId();
  const names = useQuery({
    queryKey: ["names", kind, project],
    queryFn: () => namesOf(kinds, kind, project),
    enabled: kinds.length > 0,
    staleTime: 10_000,
  });
  return (
    <>
      <Input
        {...control}
        list={list}
        autoComplete="off"
        spellCheck={false}
        placeholder={say("choose", { kind })}
        value={typeof value === "string" ? value : ""}
        onChange={({ target }) => change(path, target.value === "" ? undefined : target.value)}
      />
      <datalist id={list}>
        {(names.data ?? []).map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
    </>
  );
}

/** So many of a list are in the form. */
const MOST_ITEMS = 100;

function More({ count }: { count: number }) {
  const say = useWords(words);
  return count > 0 ? <p className="text-quiet">{say("moreItems", { count })}</p> : null;
}

function ListFields({ name, inner, path, value }: { name: string; inner: JsonSchema; path: Path; value: unknown }) {
  const say = useWords(words);
  const { change } = useForm();
  const items = Array.isArray(value) ? value : [];
  const remove = (index: number) => {
    const rest = items.filter((_, at) => at !== index);
    change(path, rest.length > 0 ? rest : undefined);
  };
  return (
    <>
      {items.slice(0, MOST_ITEMS).map((item, index) => {
        const title = say("item", { name, number: index + 1 });
        const button = (
          <Button
            look="quiet"
            icon
            aria-label={`${say("remove")} ${title}`}
            title={say("remove")}
            onClick={() => remove(index)}
          >
            <Trash2 aria-hidden />
          </Button>
        );
        return (
          // biome-ignore lint/suspicious/noArrayIndexKey: items have no identity but their place
          <div key={index} className="flex gap-2 rounded-md border border-line p-2">
            <div className="flex min-w-0 flex-1 flex-col gap-3">
              {inner.properties ? (
                <ObjectFields schema={inner} path={[...path, index]} value={item} />
              ) : (
                <SchemaField schema={inner} name={title} path={[...path, index]} value={item} />
              )}
            </div>
            {button}
          </div>
        );
      })}
      <More count={items.length - MOST_ITEMS} />
      <Button
        className="self-start"
        onClick={() => change([...path, items.length], inner.properties ? {} : inner.type === "integer" ? 0 : "")}
      >
        <Plus aria-hidden />
        {say("add")}
        <span className="sr-only">{name}</span>
      </Button>
    </>
  );
}

function MapFields({ schema, path, value }: { schema: JsonSchema; path: Path; value: unknown }) {
  const say = useWords(words);
  const { change } = useForm();
  const [name, setName] = useState("");
  const entries = Object.entries(asMap(value));
  return (
    <>
      {entries.slice(0, MOST_ITEMS).map(([key, item]) => (
        <div key={key} className="flex items-start gap-2">
          <div className="min-w-0 flex-1">
            <SchemaField schema={schema} name={key} path={[...path, key]} value={item} />
          </div>
          <Button
            look="quiet"
            icon
            className="mt-6"
            aria-label={`${say("remove")} ${key}`}
            onClick={() => change([...path, key], undefined)}
          >
            <Trash2 aria-hidden />
          </Button>
        </div>
      ))}
      <More count={entries.length - MOST_ITEMS} />
      <div className="flex gap-2">
        <Input
          aria-label={say("name")}
          placeholder={say("name")}
          value={name}
          spellCheck={false}
          onChange={({ target }) => setName(target.value)}
        />
        <Button
          disabled={name === "" || entries.some(([key]) => key === name)}
          onClick={() => {
            change([...path, name], schema.properties ? {} : "");
            setName("");
          }}
        >
          <Plus aria-hidden />
          {say("add")}
        </Button>
      </div>
    </>
  );
}

function Group(props: { title: string; help?: string; error?: string | undefined; children: ReactNode }) {
  const { title, help, error, children } = props;
  return (
    <fieldset className="flex min-w-0 flex-col gap-3 rounded-md border border-line p-3">
      <legend className="px-1 font-medium font-mono text-[13px]">{title}</legend>
      {help ? <p className="text-quiet text-xs">{help}</p> : null}
      {children}
      {error ? (
        <p className="text-bad text-xs" role="alert">
          {error}
        </p>
      ) : null}
    </fieldset>
  );
}

function takesNote(takes: Takes | undefined, isNew: boolean, say: ReturnType<typeof useWords<keyof typeof words.en>>) {
  if (takes === "Immutable") return `(${say("takesImmutable")})`;
  if (isNew || takes === undefined || takes === "Live") return "";
  return `(${say(takes === "Reboot" ? "takesReboot" : "takesRecreate")})`;
}

const asMap = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
