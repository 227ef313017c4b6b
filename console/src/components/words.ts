import { defineWords } from "~/i18n/language";

export const words = defineWords({
  en: {
    close: "Close",
    cancel: "Cancel",
    copy: "Copy",
    copied: "Copied",
    copyCommand: "Copy as vcctl command",
    loading: "Loading",
    retry: "Try again",
    failed: "This did not work",
    unreachable: "The API does not answer.",
    deleting: "Deleting",
    faultTitle: "This page has a fault",
    faultText: "The rest of the console goes on. What the fault says: {message}",
  },
  zh: {
    close: "关闭",
    cancel: "取消",
    copy: "复制",
    copied: "已复制",
    copyCommand: "复制为 vcctl 命令",
    loading: "正在加载",
    retry: "重试",
    failed: "操作失败",
    unreachable: "API 没有响应。",
    deleting: "正在删除",
    faultTitle: "此页面出现错误",
    faultText: "控制台的其他部分仍可使用。错误信息：{message}",
  },
});
