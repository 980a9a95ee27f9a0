package org.lorarar.app;

import android.content.Intent;
import android.graphics.Bitmap;
import android.net.Uri;
import android.os.Bundle;
import android.text.Editable;
import android.text.TextWatcher;
import android.view.View;
import android.widget.EditText;
import android.widget.ImageView;
import android.widget.ProgressBar;
import android.widget.SeekBar;
import java.io.File;
import java.util.Random;
import org.lorarar.core.Choices;
import org.lorarar.core.LoraShelf;
import org.lorarar.core.MergeTime;

/** Choose a subject and a style, and see them drawn. */
public final class DrawScreen extends Screen {
    private static final int SAVE = 1;
    private static final int SCALE_TICKS = 20; // of a strength of 1
    private static final String SAVING = "saving";

    private LoraRow contents;
    private LoraRow styles;
    private SeekBar contentScale;
    private SeekBar styleScale;
    private SeekBar steps;
    private EditText prompt;
    private EditText seed;
    private ImageView picture;
    private File saving; // what the save dialogue was opened for
    private File shown; // the finished picture on the screen
    private boolean isShowing; // texts are set by the screen, not typed

    @Override
    int layout() {
        return R.layout.draw;
    }

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        String path = saved == null ? null : saved.getString(SAVING);
        saving = path == null ? null : new File(path);
        contents = new LoraRow(this, R.id.contents, LoraShelf.CONTENT);
        styles = new LoraRow(this, R.id.styles, LoraShelf.STYLE);
        contentScale = slider(R.id.content_scale, (int) Choices.MOST_SCALE * SCALE_TICKS);
        styleScale = slider(R.id.style_scale, (int) Choices.MOST_SCALE * SCALE_TICKS);
        steps = slider(R.id.steps, Choices.MOST_STEPS - 1);
        prompt = typed(R.id.prompt);
        seed = typed(R.id.seed);
        picture = findView(R.id.picture);
        listen(R.id.dice, R.id.draw, R.id.cancel, R.id.share, R.id.save);
    }

    @Override
    protected void onSaveInstanceState(Bundle saved) {
        super.onSaveInstanceState(saved);
        saved.putString(SAVING, saving == null ? null : saving.getPath());
    }

    @Override
    public void changed() {
        super.changed();
        isShowing = true;
        Choices choices = studio.choices();
        contents.show(choices.content);
        styles.show(choices.style);
        showSliders(choices);
        if (!prompt.getText().toString().equals(choices.prompt)) {
            prompt.setText(choices.prompt);
        }
        if (seed.getError() == null && seedTyped() != choices.seed) {
            seed.setText(String.valueOf(choices.seed));
        }
        showMerged(choices);
        showDrawing();
        isShowing = false;
    }

    private void showSliders(Choices choices) {
        contentScale.setProgress(Math.round(choices.contentScale * SCALE_TICKS));
        styleScale.setProgress(Math.round(choices.styleScale * SCALE_TICKS));
        steps.setProgress(choices.steps - 1);
        label(contentScale, R.id.content_label,
                getString(R.string.content_strength, choices.contentScale));
        label(styleScale, R.id.style_label,
                getString(R.string.style_strength, choices.styleScale));
        label(steps, R.id.steps_label, getString(R.string.steps, choices.steps));
    }

    private void label(SeekBar slider, int id, String text) {
        setText(id, text);
        slider.setContentDescription(text);
    }

    private void showMerged(Choices choices) {
        MergeTime time = studio.merged();
        boolean isPair = choices.content != null && choices.style != null;
        contentScale.setEnabled(isPair);
        styleScale.setEnabled(isPair);
        if (time != null) {
            setText(R.id.merged, getString(R.string.merged, time.milliseconds()));
        } else {
            setText(R.id.merged, isPair ? null : getString(R.string.not_merged));
        }
    }

    private void showDrawing() {
        boolean isDrawing = studio.drawing();
        int done = studio.done();
        int all = studio.steps();
        findViewById(R.id.draw).setEnabled(studio.ready() && !isDrawing && !studio.measuring());
        findViewById(R.id.cancel).setVisibility(isDrawing ? View.VISIBLE : View.GONE);
        ProgressBar progress = findView(R.id.progress);
        progress.setVisibility(isDrawing ? View.VISIBLE : View.GONE);
        progress.setMax(all);
        progress.setProgress(done);
        picture.setKeepScreenOn(isDrawing); // an app without permissions is halted with it
        setText(R.id.progress_text,
                isDrawing && all > 0 ? getString(R.string.progress, done, all) : null);
        File last = studio.lastPicture();
        findViewById(R.id.share).setEnabled(last != null);
        findViewById(R.id.save).setEnabled(last != null);
        Bitmap preview = studio.preview();
        if (preview != null) {
            shown = null;
            picture.setImageBitmap(preview);
            picture.setContentDescription(getString(R.string.progress, done, all));
        } else if (last == null) {
            shown = null;
            picture.setImageDrawable(null);
            picture.setContentDescription(getString(R.string.no_picture));
        } else if (!last.equals(shown)) {
            showFinished(last);
        }
    }

    private void showFinished(final File file) {
        shown = file;
        Choices from = studio.choicesOf(file);
        picture.setContentDescription(
                getString(R.string.picture_of, from == null ? file.getName() : from.prompt));
        int side = getResources().getDisplayMetrics().widthPixels;
        studio.thumbnails.load(file, side, new Thumbnails.Shown() {
            @Override
            public void show(Bitmap read) {
                if (file.equals(shown)) {
                    picture.setImageBitmap(read);
                }
            }
        });
    }

    @Override
    void pressed(int id) {
        File last = studio.lastPicture();
        if (id == R.id.dice) {
            Choices choices = studio.choices();
            choices.seed = new Random().nextInt() & Choices.MOST_SEED;
            seed.setError(null);
            studio.choose(choices);
        } else if (id == R.id.draw) {
            if (seed.getError() != null) {
                seed.requestFocus();
            } else {
                studio.draw();
            }
        } else if (id == R.id.cancel) {
            studio.cancel();
        } else if (id == R.id.share && last != null) {
            share(last, "image/png");
        } else if (id == R.id.save && last != null) {
            save(last);
        }
    }

    private void save(File file) {
        saving = file;
        Intent dialogue = new Intent(Intent.ACTION_CREATE_DOCUMENT)
                .setType("image/png").putExtra(Intent.EXTRA_TITLE, file.getName());
        ask(dialogue, SAVE);
    }

    @Override
    void chosen(int request, Uri document) {
        if (saving != null) {
            studio.savePicture(saving, document);
        }
    }

    private SeekBar slider(int id, int most) {
        SeekBar slider = findView(id);
        slider.setSaveEnabled(false); // the studio knows
        slider.setMax(most);
        slider.setOnSeekBarChangeListener(new SeekBar.OnSeekBarChangeListener() {
            @Override
            public void onProgressChanged(SeekBar moved, int progress, boolean fromUser) {
                if (!isShowing) {
                    slid();
                }
            }

            @Override
            public void onStartTrackingTouch(SeekBar moved) {}

            @Override
            public void onStopTrackingTouch(SeekBar moved) {}
        });
        return slider;
    }

    private void slid() {
        Choices choices = studio.choices();
        choices.contentScale = (float) contentScale.getProgress() / SCALE_TICKS;
        choices.styleScale = (float) styleScale.getProgress() / SCALE_TICKS;
        choices.steps = steps.getProgress() + 1;
        studio.choose(choices);
    }

    private EditText typed(int id) {
        EditText field = findView(id);
        field.setSaveEnabled(false); // the studio knows
        field.addTextChangedListener(new TextWatcher() {
            @Override
            public void beforeTextChanged(CharSequence text, int at, int count, int after) {}

            @Override
            public void onTextChanged(CharSequence text, int at, int before, int count) {}

            @Override
            public void afterTextChanged(Editable text) {
                if (!isShowing) {
                    wrote();
                }
            }
        });
        return field;
    }

    private void wrote() {
        Choices choices = studio.choices();
        choices.prompt = prompt.getText().toString();
        long number = seedTyped();
        seed.setError(number < 0 ? getString(R.string.seed_range, Choices.MOST_SEED) : null);
        choices.seed = number < 0 ? choices.seed : number;
        studio.choose(choices);
    }

    /** The seed in its field, or -1 if that holds none. */
    private long seedTyped() {
        try {
            long number = Long.parseLong(seed.getText().toString());
            return number <= Choices.MOST_SEED ? number : -1;
        } catch (NumberFormatException error) {
            return -1;
        }
    }
}
