/** The YAML editor. It is large: load it by `lazy(() => import("~/yaml/Editor"))`. */
import { autocompletion, type CompletionContext, closeBrackets, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { bracketMatching, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { type Diagnostic, lintGutter, lintKeymap, setDiagnostics } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState, type Extension } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, hoverTooltip, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "react";
import type { JsonSchema } from "~/schema/schema";
import { helpAt, offersAt, referenceAt } from "./assist";
import { isDeep, isLarge, type Mark, MOST_CHARACTERS } from "./document";

interface EditorProps {
  text: string;
  onChange?: (text: string) => void;
  /** When something was not taken in, for the text would be longer than the API takes. */
  onTooLong?: () => void;
  schema?: JsonSchema;
  marks?: readonly Mark[];
  /** Names of the objects of a kind, for references. */
  namesOf?: (kind: string) => Promise<string[]>;
  label: string;
  /** Where the caret is to go. */
  caret?: { at: number };
  className?: string;
}

export const theme: Extension = [
  EditorView.theme({
    "&": { backgroundColor: "var(--surface)", color: "var(--text)", height: "100%", fontSize: "13px" },
    ".cm-content, .cm-gutters": { fontFamily: "var(--font-mono)" },
    ".cm-gutters": { backgroundColor: "var(--raised)", color: "var(--quiet)", border: "none" },
    ".cm-activeLine": { backgroundColor: "color-mix(in srgb, var(--raised) 60%, transparent)" },
    ".cm-activeLineGutter": { backgroundColor: "var(--line)" },
    ".cm-cursor": { borderLeftColor: "var(--text)" },
    "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": {
      backgroundColor: "color-mix(in srgb, var(--accent) 30%, transparent) !important",
    },
    ".cm-tooltip": {
      backgroundColor: "var(--surface)",
      color: "var(--text)",
      border: "1px solid var(--line)",
      borderRadius: "6px",
      maxWidth: "36rem",
    },
    ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
    ".cm-panels": { backgroundColor: "var(--raised)", color: "var(--text)" },
    ".cm-diagnostic": { whiteSpace: "pre-wrap" },
    ".cm-deletedChunk, .cm-changedLine.cm-deletedLine": { backgroundColor: "var(--bad-ground)" },
  }),
  syntaxHighlighting(
    HighlightStyle.define([
      { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--info)" },
      { tag: [tags.string, tags.content], color: "var(--text)" },
      { tag: [tags.number, tags.bool, tags.null, tags.keyword], color: "var(--warn)" },
      { tag: tags.comment, color: "var(--quiet)", fontStyle: "italic" },
      { tag: tags.meta, color: "var(--quiet)" },
    ]),
  ),
];

const PLAIN: Extension = [];

const isPlainText = (text: string): boolean => isLarge(text) || isDeep(text);

/** YAML in colours, for as long as the text is not too deep or too long for that. */
function coloured(text: string): Extension {
  const language = new Compartment();
  return [
    language.of(isPlainText(text) ? PLAIN : yaml()),
    EditorState.transactionExtender.of((transaction) => {
      if (!transaction.docChanged) return null;
      const isPlain = isPlainText(transaction.newDoc.toString());
      if (isPlain === (language.get(transaction.startState) === PLAIN)) return null;
      return { effects: language.reconfigure(isPlain ? PLAIN : yaml()) };
    }),
  ];
}

export default function Editor(props: EditorProps) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const { text, marks, schema, label, caret, className, onChange } = props;
  const isEditable = onChange !== undefined;

  useEffect(() => {
    if (!host.current) return;
    const assist = new Compartment();
    const editor = new EditorView({
      parent: host.current,
      state: EditorState.create({
        doc: latest.current.text,
        extensions: [
          lineNumbers(),
          drawSelection(),
          bracketMatching(),
          highlightSelectionMatches(),
          coloured(latest.current.text),
          theme,
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ "aria-label": label, tabindex: "0" }),
          assist.of(assistance(() => latest.current)),
          ...(isEditable
            ? [
                history(),
                closeBrackets(),
                indentOnInput(),
                indentUnit.of("  "),
                highlightActiveLine(),
                lintGutter(),
                keymap.of([...completionKeymap, indentWithTab, ...historyKeymap]),
                EditorState.changeFilter.of((transaction) => {
                  const { length } = transaction.newDoc;
                  if (length <= MOST_CHARACTERS || length <= transaction.startState.doc.length) return true;
                  latest.current.onTooLong?.();
                  return false;
                }),
              ]
            : [EditorState.readOnly.of(true)]),
          keymap.of([...searchKeymap, ...lintKeymap, ...defaultKeymap]),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) latest.current.onChange?.(update.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = editor;
    return () => {
      editor.destroy();
      view.current = null;
    };
  }, [isEditable, label]);

  useEffect(() => {
    const editor = view.current;
    const before = editor?.state.doc.toString();
    // Only what came from elsewhere, such as the form: the caret stays where one types.
    if (editor && before !== undefined && before !== text) editor.dispatch(difference(before, text));
  }, [text]);

  useEffect(() => {
    const editor = view.current;
    if (!editor) return;
    const length = editor.state.doc.length;
    const found = (marks ?? []).map<Diagnostic>(({ from, to, message }) => ({
      from: Math.min(from, length),
      to: Math.min(Math.max(to, from + 1), length),
      severity: "error",
      message,
    }));
    editor.dispatch(setDiagnostics(editor.state, found));
  }, [marks]);

  useEffect(() => {
    const editor = view.current;
    if (!editor || !caret) return;
    const anchor = Math.min(caret.at, editor.state.doc.length);
    editor.dispatch({ selection: { anchor }, effects: EditorView.scrollIntoView(anchor, { y: "center" }) });
    editor.focus();
  }, [caret]);

  return <div ref={host} data-schema={schema ? "" : undefined} className={className} />;
}

/** Returns the smallest change from one text to the other. */
function difference(before: string, after: string) {
  let start = 0;
  const most = Math.min(before.length, after.length);
  while (start < most && before[start] === after[start]) start += 1;
  let end = 0;
  while (end < most - start && before.at(-1 - end) === after.at(-1 - end)) end += 1;
  return { changes: { from: start, to: before.length - end, insert: after.slice(start, after.length - end) } };
}

function assistance(props: () => EditorProps): Extension {
  const complete = async (context: CompletionContext) => {
    const { schema, namesOf } = props();
    const word = context.matchBefore(/[\w./*-]*/);
    if (!schema || (!context.explicit && word?.from === word?.to)) return null;
    const text = context.state.doc.toString();
    if (isLarge(text)) return null;
    const kind = referenceAt(text, context.pos, schema);
    const names = kind && namesOf ? await namesOf(kind).catch(() => []) : [];
    const options = [
      ...names.map((name) => ({ label: name, type: "variable", detail: kind ?? "" })),
      ...offersAt(text, context.pos, schema).map(({ label, text: apply, detail, info, isRequired }) => ({
        label,
        apply,
        detail,
        type: apply.endsWith(": ") ? "property" : "enum",
        boost: isRequired ? 1 : 0,
        ...(info ? { info } : {}),
      })),
    ];
    return options.length > 0 ? { from: word?.from ?? context.pos, options, validFor: /^[\w./*-]*$/ } : null;
  };
  const hover = hoverTooltip((view, at) => {
    const { schema } = props();
    const text = view.state.doc.toString();
    const help = schema && !isLarge(text) && helpAt(text, at, schema);
    if (!help || (!help.doc && !help.type)) return null;
    return {
      pos: at,
      create() {
        const dom = document.createElement("div");
        dom.style.padding = "6px 8px";
        dom.style.whiteSpace = "pre-wrap";
        const head = document.createElement("p");
        head.style.fontWeight = "600";
        head.textContent = [help.name, help.type, help.refersTo && `→ ${help.refersTo}`, help.takes]
          .filter(Boolean)
          .join(" · ");
        const doc = document.createElement("p");
        doc.textContent = help.doc;
        dom.append(head, doc);
        return { dom };
      },
    };
  });
  return [autocompletion({ override: [complete] }), hover];
}
