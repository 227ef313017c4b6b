import { defineWords } from "~/i18n/language";

export const words = defineWords({
  en: { title: "Your cloud" },
  zh: { title: "您的云" },
});
