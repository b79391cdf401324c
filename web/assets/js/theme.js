// Sets the colours before the page is drawn. It is no module: modules run later.
'use strict';
{
  let kept = 'auto';
  try {
    kept = localStorage.getItem('iserd-theme') || 'auto';
  } catch { /* storage is switched off */ }
  if (kept !== 'auto') document.documentElement.dataset.theme = kept;
}
