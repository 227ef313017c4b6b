/** Two texts side by side, or one below the other where the window is narrow. Large: load it lazily. */
import { yaml } from "@codemirror/lang-yaml";
import { MergeView, unifiedMergeView } from "@codemirror/merge";
import { EditorState } from "@codemirror/state";
import { EditorView, lineNumbers } from "@codemirror/view";
import { useEffect, useRef } from "react";
import { isDeep } from "./document";
import { theme } from "./Editor";

interface ComparisonProps {
  before: string;
  after: string;
  labels: [string, string];
}

const NARROW = 700;

export default function Comparison({ before, after, labels: [first, second] }: ComparisonProps) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!host.current) return;
    const isPlain = isDeep(before) || isDeep(after);
    const common = (label: string) => [
      lineNumbers(),
      isPlain ? [] : yaml(),
      theme,
      EditorView.lineWrapping,
      EditorState.readOnly.of(true),
      EditorView.editable.of(false),
      EditorView.contentAttributes.of({ "aria-label": label, tabindex: "0", role: "textbox", "aria-readonly": "true" }),
    ];
    const collapse = { margin: 4, minSize: 8 };
    if (host.current.clientWidth < NARROW) {
      const view = new EditorView({
        parent: host.current,
        doc: after,
        extensions: [
          common(second),
          unifiedMergeView({ original: before, mergeControls: false, collapseUnchanged: collapse }),
        ],
      });
      return () => view.destroy();
    }
    const view = new MergeView({
      parent: host.current,
      a: { doc: before, extensions: common(first) },
      b: { doc: after, extensions: common(second) },
      collapseUnchanged: collapse,
    });
    return () => view.destroy();
  }, [before, after, first, second]);
  return <div ref={host} className="overflow-auto rounded-md border border-line" />;
}
