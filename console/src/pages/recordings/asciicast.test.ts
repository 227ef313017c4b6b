import { describe, expect, it } from "vitest";
import { clock, countUntil, readCast, withoutPauses } from "./asciicast";

const CAST = [
  '{"version": 2, "width": 100, "height": 30, "timestamp": 1700000000}',
  '[0.5, "o", "$ "]',
  '[1.0, "i", "secret"]',
  '[60.5, "r", "120x40"]',
  '[61.0, "o", "done\\r\\n"]',
  '[61.2, "o", "cut o',
].join("\n");

describe("a recording", () => {
  it("is what was shown and how large the terminal was, as far as it goes", () => {
    expect(readCast(CAST)).toEqual({
      columns: 100,
      rows: 30,
      length: 61,
      events: [
        { at: 0.5, output: "$ " },
        { at: 60.5, columns: 120, rows: 40 },
        { at: 61, output: "done\r\n" },
      ],
    });
  });

  it("can be nothing else", () => {
    expect(() => readCast("<html>")).toThrow("asciicast");
    expect(() => readCast('{"version": 1}')).toThrow("asciicast");
  });

  it("is drawn with a bounded number of cells, and in order, whatever it says", () => {
    const wild = ['{"version":2,"width":1e9,"height":-4}', '[5,"o","a"]', '[1,"o","b"]', '[6,"r","9999x0"]', "[]", "7"];
    const cast = readCast(wild.join("\n"));
    expect([cast.columns, cast.rows]).toEqual([500, 24]);
    expect(cast.events.map(({ at }) => at)).toEqual([5, 5, 6]);
    expect(cast.events.at(-1)).toEqual({ at: 6, columns: 500, rows: 24 });
  });

  it("can be looked at without its pauses", () => {
    const short = withoutPauses(readCast(CAST), 2);
    expect(short.events.map(({ at }) => at)).toEqual([0.5, 2.5, 3]);
    expect(short.length).toBe(3);
  });

  it("has a place for each moment", () => {
    const { events } = readCast(CAST);
    expect([0, 0.5, 60, 60.5, 1e9].map((moment) => countUntil(events, moment))).toEqual([0, 1, 1, 2, 3]);
    expect([0, 7.9, 754, 3600].map(clock)).toEqual(["0:00", "0:07", "12:34", "1:00:00"]);
  });
});
