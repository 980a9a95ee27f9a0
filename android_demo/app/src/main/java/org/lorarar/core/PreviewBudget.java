package org.lorarar.core;

/** After which steps a picture is shown: so often that showing takes a quarter of drawing at most. */
public final class PreviewBudget {
    private static final double SHARE = 0.25;

    private double drawn;
    private double shown;
    private double last;

    /** Note how long a step took, in milliseconds. */
    public void drew(double milliseconds) {
        drawn += milliseconds;
    }

    /** Note how long it took to show a picture, in milliseconds. */
    public void showed(double milliseconds) {
        shown += milliseconds;
        last = milliseconds;
    }

    /** Whether there is time to show the picture of now; the first time costs what it costs. */
    public boolean allows() {
        return shown + last <= SHARE * drawn || shown == 0;
    }
}
