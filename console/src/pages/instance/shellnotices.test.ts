import { describe, expect, it } from "vitest";
import { readNotice } from "./shellnotices";

describe("a shell's notice", () => {
  it("says that it is recorded, how it ended, and why not", () => {
    expect(readNotice('{"recording":true}')).toEqual({ recorded: true });
    expect(readNotice('{"open":{"login":"root","recording":"r-1"}}')).toEqual({ recorded: true });
    expect(readNotice('{"open":{"login":"root","recording":null}}')).toEqual({});
    expect(readNotice('{"exit":{"status":3}}')).toEqual({ ended: 3 });
    expect(readNotice('{"error":{"message":"nothing listens"}}')).toEqual({ fault: "nothing listens" });
    expect(readNotice('{"error":{"message":"no answer","code":503}}')).toEqual({ fault: "no answer", passing: true });
    expect(readNotice('{"error":{"message":"not in","code":403}}')).toEqual({ fault: "not in" });
    expect([readNotice("no JSON"), readNotice("null"), readNotice("[1]")]).toEqual([{}, {}, {}]);
  });
});
