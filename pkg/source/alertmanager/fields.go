package alertmanager

// fields says what event.data holds, from prometheus/alertmanager template.Data and notify/webhook, and what Grafana puts
// beside it (grafana/alerting templates).
const fields = `
alert.firing alert.resolved = @alert version groupKey truncatedAlerts status receiver groupLabels* commonLabels*
  commonAnnotations* externalURL notificationReason alerts[]{status labels* annotations* startsAt endsAt sendsAt
  generatorURL fingerprint
  silenceURL dashboardURL panelURL imageURL values* valueString orgId extraData* ruleUID}
  orgId title state message appVersion vars*
`
