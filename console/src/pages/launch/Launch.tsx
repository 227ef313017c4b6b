import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Rocket } from "lucide-react";
import { type FormEvent, useEffect, useMemo, useRef, useState } from "react";
import { useParams } from "react-router";
import { request } from "~/api/client";
import { collectionPath } from "~/api/kinds";
import { useLiveList } from "~/api/lists";
import type { Resource, ResourceList } from "~/api/types";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { Failure } from "~/components/Failure";
import { Field, INPUT, Input } from "~/components/Field";
import { readableBytes } from "~/components/values";
import { useWords } from "~/i18n/language";
import { Choice } from "./Choice";
import { NewKey, NewNetwork } from "./Making";
import { type Choices, draftKey, freeName, instanceOf, isName, type Manifest, NOTHING } from "./manifest";
import { Review } from "./Review";
import { words } from "./words";

interface Flavor extends Resource {
  spec: { vcpus: number; memoryMiB: number; rootDiskGiB: number };
}

const MIB = 2 ** 20;
const isReady = ({ status }: Resource): boolean =>
  status?.conditions?.some(({ type, status: now }) => type === "Ready" && now === "True") ?? false;
const named = (items: Resource[]) => items.map(({ metadata: { name } }) => ({ value: name, label: name }));

/** Returns the networks that other projects share with this one. No stream tells of them. */
function useShared(project: string) {
  const path = collectionPath("networks", project);
  return useQuery({
    queryKey: ["shared", path],
    queryFn: ({ signal }) => request<ResourceList>("GET", path, { query: { shared: true }, signal }),
    select: ({ items }) => items,
    refetchInterval: 15_000,
  });
}

/** What was chosen so far. */
interface Draft {
  choices: Choices;
  named_: boolean;
}

/** A new instance: what it is made of, then what that comes to, then it is made. */
export function Component() {
  const { project = "" } = useParams();
  return <Wizard key={project} project={project} />;
}

function Wizard({ project }: { project: string }) {
  const say = useWords(words);
  const own = useLiveList(collectionPath("images", project));
  const open = useLiveList(collectionPath("images"));
  const flavors = useLiveList("/api/v1/flavors");
  const networks = useLiveList(collectionPath("networks", project));
  const shared = useShared(project);
  const groups = useLiveList(collectionPath("securitygroups", project));
  const keys = useLiveList(collectionPath("sshkeys", project));
  const instances = useLiveList(collectionPath("instances", project));
  // Who goes back and comes again finds it all; it ends with the session.
  const cache = useQueryClient();
  const [draft] = useState(() => cache.getQueryData<Draft>(draftKey(project)));
  const [choices, setChoices] = useState<Choices>(draft?.choices ?? NOTHING);
  const [named_, setNamed] = useState(draft?.named_ ?? false);
  useEffect(() => {
    cache.setQueryData<Draft>(draftKey(project), { choices, named_ });
  }, [cache, project, choices, named_]);
  const [making, setMaking] = useState<"network" | "key" | null>(null);
  const [review, setReview] = useState<Manifest | null>(null);
  const choose = (changes: Partial<Choices>) => setChoices((before) => ({ ...before, ...changes }));

  const images = useMemo(() => {
    const found = new Map<string, Resource>();
    for (const image of [...open.items, ...own.items]) {
      const home = image.metadata.project;
      if ((!home || home === project) && isReady(image)) found.set(image.metadata.name, image);
    }
    return [...found.values()];
  }, [open.items, own.items, project]);
  const sizes = useMemo(
    () => [...(flavors.items as Flavor[])].sort((a, b) => a.spec.memoryMiB - b.spec.memoryMiB),
    [flavors.items],
  );
  const lent = shared.data;
  const cards = useMemo(
    () => [
      ...named(networks.items),
      ...(lent ?? []).map(({ metadata: { project: owner, name } }) => ({
        value: `${owner}/${name}`,
        label: `${owner}/${name}`,
        detail: say("sharedBy", { project: owner ?? "" }),
      })),
    ],
    [networks.items, lent, say],
  );
  const taken = useMemo(() => new Set(instances.items.map(({ metadata }) => metadata.name)), [instances.items]);

  // What there is only one of need not be chosen; the smallest size is a start.
  useEffect(() => {
    setChoices((before) => ({
      ...before,
      image: before.image || images[0]?.metadata.name || "",
      flavor: before.flavor || sizes[0]?.metadata.name || "",
    }));
  }, [images, sizes]);
  // Once only: who takes the last network away wants none.
  const known = !networks.loading && !shared.isPending;
  const proposed = useRef(false);
  useEffect(() => {
    const [first] = cards;
    if (!known || !first || proposed.current) return;
    proposed.current = true;
    setChoices((before) => (before.networks.length > 0 ? before : { ...before, networks: [first.value] }));
  }, [known, cards]);
  const name = named_ ? choices.name : freeName(choices.image, taken);

  if (own.loading || flavors.loading || networks.loading || instances.loading) return <Busy />;
  const fault = !isName(name) ? say("nameError") : taken.has(name) ? say("taken") : "";
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setReview(instanceOf(project, { ...choices, name }));
  };
  return (
    <div className="mx-auto flex max-w-4xl flex-col gap-4 p-4">
      <h1 className="font-semibold text-lg">{say("title", { project })}</h1>
      <Choice
        legend={say("image")}
        options={images.map(({ metadata, spec }) => ({
          value: metadata.name,
          label: metadata.name,
          detail: String(spec?.description ?? ""),
        }))}
        chosen={[choices.image]}
        onChange={([image = ""]) => choose({ image })}
        empty={say("noImages")}
      />
      <Choice
        legend={say("flavor")}
        options={sizes.map(({ metadata, spec }) => ({
          value: metadata.name,
          label: metadata.name,
          detail: say("size", {
            vcpus: spec.vcpus,
            memory: readableBytes(spec.memoryMiB * MIB),
            disk: readableBytes(spec.rootDiskGiB * 1024 * MIB),
          }),
        }))}
        chosen={[choices.flavor]}
        onChange={([flavor = ""]) => choose({ flavor })}
        empty={say("noFlavors")}
      />
      <Choice
        legend={say("network")}
        help={say("networkHelp")}
        many
        options={cards}
        chosen={choices.networks}
        onChange={(chosen) => choose({ networks: chosen })}
        empty={say("noNetworks")}
      >
        {shared.error ? <Failure error={shared.error} onRetry={() => void shared.refetch()} /> : null}
        {making === "network" ? (
          <NewNetwork
            project={project}
            onMade={(made) => {
              setMaking(null);
              setChoices((before) => ({ ...before, networks: [...new Set([...before.networks, made])] }));
            }}
          />
        ) : (
          <Button onClick={() => setMaking("network")}>{say("newNetwork")}</Button>
        )}
      </Choice>
      <Choice
        legend={say("groups")}
        help={say("groupsHelp")}
        many
        options={named(groups.items)}
        chosen={choices.securityGroups}
        onChange={(securityGroups) => choose({ securityGroups })}
      />
      <Choice
        legend={say("keys")}
        help={say("keysHelp")}
        many
        options={named(keys.items)}
        chosen={choices.sshKeys}
        onChange={(sshKeys) => choose({ sshKeys })}
      >
        {making === "key" ? (
          <NewKey
            project={project}
            onMade={(made) => {
              setMaking(null);
              setChoices((before) => ({ ...before, sshKeys: [...before.sshKeys, made] }));
            }}
          />
        ) : (
          <Button onClick={() => setMaking("key")}>{say("newKey")}</Button>
        )}
      </Choice>
      <form onSubmit={submit} className="flex flex-col gap-4">
        <details className="rounded-lg border border-line bg-surface p-3">
          <summary className="cursor-pointer font-semibold">{say("more")}</summary>
          <div className="mt-3 flex flex-col gap-3">
            <Field label={say("userData")} help={say("userDataHelp")}>
              {(control) => (
                <textarea
                  {...control}
                  value={choices.userData}
                  rows={5}
                  spellCheck={false}
                  className={`${INPUT} font-mono text-xs`}
                  onChange={(event) => choose({ userData: event.target.value })}
                />
              )}
            </Field>
            <Field label={say("zone")} help={say("zoneHelp")}>
              {(control) => (
                <Input {...control} value={choices.zone} onChange={(event) => choose({ zone: event.target.value })} />
              )}
            </Field>
          </div>
        </details>
        <Field label={say("name")} {...(fault ? { error: fault } : {})}>
          {(control) => (
            <Input
              {...control}
              value={name}
              required
              spellCheck={false}
              autoComplete="off"
              onChange={(event) => {
                setNamed(true);
                choose({ name: event.target.value });
              }}
            />
          )}
        </Field>
        <Button
          type="submit"
          look="primary"
          className="self-end"
          disabled={Boolean(fault) || !choices.image || !choices.flavor}
        >
          <Rocket aria-hidden />
          {say("review")}
        </Button>
      </form>
      {review ? <Review manifest={review} project={project} onClose={() => setReview(null)} /> : null}
    </div>
  );
}
