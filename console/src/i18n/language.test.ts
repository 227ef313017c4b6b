import { describe, expect, it } from "vitest";
import { fill, type Words } from "./language";
import { guessLanguage } from "./languages";

const dictionaries = import.meta.glob<Record<string, unknown>>(["../**/words.ts", "../pages/index.ts"], {
  eager: true,
});
const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();

describe("the words", () => {
  it.each(Object.entries(dictionaries))(
    "of %s are there in all languages, with the same placeholders",
    (_path, module) => {
      const { en, zh } = module.words as Words<string>;
      expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort());
      for (const [key, text] of Object.entries(en)) {
        expect(text.trim(), key).not.toBe("");
        expect(zh[key]?.trim(), key).not.toBe("");
        expect(placeholders(zh[key] ?? ""), key).toEqual(placeholders(text));
      }
    },
  );

  it("take values as they are, and leave what is not given", () => {
    expect(fill("{a} of {b}, {c}", { a: 1, b: "<b>" })).toBe("1 of <b>, {c}");
  });

  it("are in the browser's first language that is known", () => {
    expect(guessLanguage(["fr-FR", "zh-CN", "en"])).toBe("zh");
    expect(guessLanguage(["fr"])).toBe("en");
  });
});
